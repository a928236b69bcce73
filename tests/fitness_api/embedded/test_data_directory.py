import base64
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fitness_api.embedded import data_directory
from fitness_api.embedded.data_directory import LOOPBACK, MAX_LOG_BYTES, free_port, is_free, opened
from fitness_api.embedded.errors import DataDirectoryInUse, DataDirectoryUnusable, DiskFull, PortTaken

CHECKOUT = Path(data_directory.__file__).parents[2]


@contextmanager
def listening(host: str = LOOPBACK) -> Iterator[int]:
    with socket.socket() as server:
        server.bind((host, 0))
        server.listen()
        yield server.getsockname()[1]


def test_it_is_made_for_its_owner_only(tmp_path: Path) -> None:
    with opened(tmp_path / "deep" / "data") as data:
        assert stat.S_IMODE(data.path.stat().st_mode) == 0o700
        assert data.mongod.is_dir()
        assert data.valkey.is_dir()


def test_a_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(DataDirectoryInUse, match=f"process {os.getpid()}"), opened(tmp_path):
        pass
    with opened(tmp_path):
        pass


def test_a_holder_that_was_killed_is_noticed_and_does_not_block(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from fitness_api.embedded.data_directory import opened
with opened(Path({str(tmp_path)!r})):
    os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ, "PYTHONPATH": str(CHECKOUT)})
    assert killed.returncode == -9
    with opened(tmp_path) as data:
        assert data.unclean
    with opened(tmp_path) as data:
        assert not data.unclean


def test_an_error_inside_is_not_an_unclean_end(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), opened(tmp_path):
        raise ZeroDivisionError
    with opened(tmp_path) as data:
        assert not data.unclean


def test_what_is_no_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirectoryUnusable, match="file"), opened(tmp_path / "file"):
        pass


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    with pytest.raises(DataDirectoryUnusable, match="File exists"), opened(tmp_path):
        pass


def test_a_disk_without_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: _Usage)
    with pytest.raises(DiskFull, match="3 MiB are free and 512 MiB are needed"), opened(tmp_path):
        pass


class _Usage:
    free = 3 << 20


def test_the_key_is_made_once_and_hidden_from_others(tmp_path: Path) -> None:
    with opened(tmp_path) as data:
        key = data.master_key()
        (tmp_path / "secrets.json").chmod(0o644)
        assert data.master_key() == key
    with opened(tmp_path) as data:
        assert data.master_key(lambda _: b"") == key
    assert len(base64.b64decode(key)) == 32
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600


def test_secrets_that_cannot_be_read_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text('{"master_key":')
    with opened(tmp_path) as data, pytest.raises(DataDirectoryUnusable, match="not JSON"):
        data.master_key()
    (tmp_path / "secrets.json").write_text("[]")
    with opened(tmp_path) as data, pytest.raises(DataDirectoryUnusable, match="not a JSON object"):
        data.master_key()


def test_a_default_that_is_taken_at_first_is_replaced_for_good(tmp_path: Path) -> None:
    with listening() as taken, opened(tmp_path) as data:
        chosen = data.ports({"mongod": taken})["mongod"]
        assert chosen != taken
    with opened(tmp_path) as data:
        assert data.ports({"mongod": taken}) == {"mongod": chosen}


def test_a_free_default_is_taken_and_remembered(tmp_path: Path) -> None:
    port = free_port()
    with opened(tmp_path) as data:
        assert data.ports({"mongod": port}) == {"mongod": port}
    assert json.loads((tmp_path / "ports.json").read_text()) == {"mongod": port}


def test_ports_that_are_not_asked_for_are_kept(tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    with opened(tmp_path) as data:
        data.ports({"mongod": first})
        data.ports({"valkey": second})
        assert data.ports({"mongod": 1, "valkey": 1}) == {"mongod": first, "valkey": second}


def test_a_remembered_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    with listening() as taken, opened(tmp_path) as data:
        (tmp_path / "ports.json").write_text(json.dumps({"mongod": taken}))
        with pytest.raises(PortTaken, match=rf"Port {taken}, meant for mongod, .*ports\.json"):
            data.ports({"mongod": 1})


def test_after_a_kill_a_port_is_given_time_to_become_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "up.lock").write_text("1234\n")
    with listening() as taken, opened(tmp_path) as data:
        (tmp_path / "ports.json").write_text(json.dumps({"mongod": taken}))
        monkeypatch.setattr(data_directory, "PORT_FREED_WITHIN_S", 0.2)
        with pytest.raises(PortTaken):
            data.ports({"mongod": 1})
        with socket.socket() as dying:
            dying.bind((LOOPBACK, 0))
            dying.listen()
            port = dying.getsockname()[1]
            (tmp_path / "ports.json").write_text(json.dumps({"mongod": port}))
            monkeypatch.setattr("time.sleep", lambda _: dying.close())
            assert data.ports({"mongod": 1}) == {"mongod": port}


@pytest.mark.parametrize("host", [LOOPBACK, "0.0.0.0"])
def test_a_port_is_taken_by_who_listens_on_any_address(host: str) -> None:
    with listening(host) as port:
        assert not is_free(port)
    assert is_free(port)


def test_logs_are_moved_aside_at_the_start(tmp_path: Path) -> None:
    with opened(tmp_path) as data:
        data.log("mongod").write_text("first")
    with opened(tmp_path) as data:
        assert not data.log("mongod").exists()
        assert (data.logs / "mongod.log.1").read_text() == "first"


def test_a_log_that_outgrows_its_bound_is_cut_while_it_is_written(tmp_path: Path) -> None:
    with opened(tmp_path) as data, data.log("gateway").open("ab") as writer:
        writer.truncate(MAX_LOG_BYTES + 1)
        data.bound_logs()
        writer.write(b"after")
        writer.flush()
        assert data.log("gateway").read_bytes() == b"after"
        assert (data.logs / "gateway.log.1").stat().st_size == MAX_LOG_BYTES + 1
        data.bound_logs()
        assert data.log("gateway").read_bytes() == b"after"
