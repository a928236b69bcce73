"""`fitness-api up` as a user runs it: a process of its own, with real servers."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest
from pymongo import MongoClient

from fitness_api import up
from fitness_api.embedded.data_directory import free_port
from tests.fitness_api.test_cli import CHECKOUT, KEY, environment

# A machine that is busy with other tests is slow; what hangs still ends.
WITHIN_S = 60


class Up:
    """A running `fitness-api up`, its output as it comes."""

    def __init__(self, data: Path, *arguments: str, **settings: str) -> None:
        self.port = free_port()
        self.data = data
        data.mkdir(parents=True, exist_ok=True)
        if not (data / "ports.json").exists():
            # The defaults are for people; tests run beside one another.
            (data / "ports.json").write_text(
                json.dumps({name: free_port() for name in ("mongod", "valkey", "mailbox")})
            )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fitness_api", "up", "--data", data, "--port", str(self.port), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=CHECKOUT,
            env=environment(settings),
        )
        self.lines: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def read_until(self, words: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if words in line:
                return
        pytest.fail("\n".join(["It ended before it said " + words, *self.lines]))

    def ends(self) -> int:
        rest, _ = self.process.communicate(timeout=WITHIN_S)
        self.lines += rest.splitlines()
        return self.process.returncode

    def children(self) -> dict[str, psutil.Process]:
        names = {"mongod": "mongod", "valkey-server": "valkey"}
        found = psutil.Process(self.process.pid).children()
        return {names.get(child.name()) or _python(child): child for child in found}


def _python(child: psutil.Process) -> str:
    return "mailbox" if any("mailbox" in word for word in child.cmdline()) else "gateway"


@contextlib.contextmanager
def running(data: Path, **settings: str) -> Iterator[Up]:
    started = Up(data, **settings)
    try:
        started.read_until("Ctrl-C stops everything")
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.process.send_signal(signal.SIGTERM)
        started.ends()


def refused(data: Path, *arguments: str, **settings: str) -> list[str]:
    """Runs an `up` that cannot start; returns the one line that it says."""
    started = Up(data, *arguments, **settings)
    status = started.ends()
    assert status in (1, 2), started.lines
    assert "Traceback" not in "\n".join(started.lines)
    return started.lines


@contextlib.contextmanager
def listening() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def mail_in(folder: Path) -> str:
    """The first mail's text, once it is there."""
    give_up_at_s = time.monotonic() + WITHIN_S
    while not (found := list(folder.glob("*.txt"))):
        assert time.monotonic() < give_up_at_s, "no mail came"
        time.sleep(0.05)
    return found[0].read_text("utf-8")


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=WITHIN_S)
    return not alive


def test_it_serves_keeps_its_data_and_leaves_nothing_behind(tmp_path: Path) -> None:
    ada = {"email": "ada@example.com", "password": "correct horse battery staple"}
    with running(tmp_path) as first:
        children = list(first.children().values())
        assert sorted(first.children()) == ["gateway", "mailbox", "mongod", "valkey"]
        assert httpx.get(f"{first.url}/readyz", trust_env=False).status_code == 200
        assert httpx.post(f"{first.url}/v1/auth/register", json=ada, trust_env=False).status_code == 201
        assert any(f"{first.url}/docs" in line for line in first.lines)
        assert f"{first.url}/account/verify?token=" in mail_in(tmp_path / "mail")
        assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600

        [said] = refused(tmp_path)
        assert said.startswith(f"error: {tmp_path} is in use by process {first.process.pid}.")

    assert first.process.returncode == 0
    assert [line.split()[0] for line in first.lines if " stopped (" in line] == [
        "gateway",
        "mailbox",
        "valkey",
        "mongod",
    ]
    assert gone(children)

    with running(tmp_path) as second:
        assert "up to date" in "\n".join(second.lines)
        assert httpx.post(f"{second.url}/v1/auth/login", json=ada, trust_env=False).status_code == 200


def test_nothing_outlives_a_killed_one_and_the_next_start_recovers(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        orphans = list(first.children().values())
        first.process.kill()
        assert gone(orphans)

    with running(tmp_path) as second:
        assert "did not stop by itself" in second.lines[0]
        children = second.children()
        # One that does not react, as one that is busy for long: a second signal does not wait for it.
        children["gateway"].suspend()
        second.process.send_signal(signal.SIGINT)
        second.read_until("once more")
        second.process.send_signal(signal.SIGINT)
        assert second.ends() == 0
    assert any(line.startswith("gateway killed") for line in second.lines)
    assert gone(list(children.values()))


def test_the_death_of_one_ends_all(tmp_path: Path) -> None:
    with running(tmp_path) as started:
        children = started.children()
        children["mongod"].kill()
        assert started.ends() == 1
    assert any(line.startswith("error: mongod ended by itself (killed by SIGKILL).") for line in started.lines)
    assert any(line.startswith("  │ ") for line in started.lines)
    assert gone(list(children.values()))


def test_a_signal_while_it_starts_stops_what_has_started(tmp_path: Path) -> None:
    started = Up(tmp_path)
    started.read_until("MongoDB: ready")
    children = list(started.children().values())
    started.process.send_signal(signal.SIGINT)
    assert started.ends() == 0
    assert "mongod stopped" in started.lines[-1]
    assert gone(children)


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with listening() as taken:
        [said] = refused(tmp_path, "--port", str(taken))
        assert said.startswith(f"error: Port {taken}, meant for the API, is taken by something else.")


def test_an_unusable_directory_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("gone wrong")
    [said] = refused(tmp_path)
    assert said.startswith(f"error: {tmp_path / 'secrets.json'} cannot be used: it is not JSON")


def test_a_bad_setting_is_a_usage_error(tmp_path: Path) -> None:
    assert refused(tmp_path, password_hashers="many") == [
        "fitness-api: Expected `int`, got `str` - at FITNESS_PASSWORD_HASHERS"
    ]


def test_servers_that_run_already_are_used(tmp_path: Path, mongo_url: str, redis_url: str) -> None:
    # A name of its own: the signing keys that a run leaves there are sealed under that run's master key.
    database = f"up_{uuid4().hex[:16]}"
    urls = {"mongo_url": mongo_url, "redis_url": redis_url, "smtp_url": "smtp://127.0.0.1:1"}
    with running(tmp_path, mongo_database=database, **urls) as started:
        assert list(started.children()) == ["gateway"]
        assert any(mongo_url in line for line in started.lines)
    with MongoClient[dict[str, Any]](mongo_url) as client:
        client.drop_database(database)


def test_what_is_set_wins_over_what_is_remembered() -> None:
    def chosen(option: int | None, **settings: str) -> dict[str, str]:
        options = up.Options(data=Path("data"), port=option)
        return up.gateway_environment(options, environment(settings), ports={"mongod": 1, "valkey": 2}, master_key=KEY)

    assert chosen(None)["FITNESS_PORT"] == "8080"
    assert chosen(None, port="81")["FITNESS_PUBLIC_URL"] == "http://127.0.0.1:81"
    assert chosen(82, port="81")["FITNESS_PORT"] == "82"
    assert int(chosen(0)["FITNESS_PORT"]) > 0
    assert chosen(None, master_key="other")["FITNESS_MASTER_KEY"] == "other"
    assert chosen(None)["FITNESS_MONGO_URL"] == "mongodb://127.0.0.1:1/?replicaSet=rs0"
    assert chosen(None)["FITNESS_REDIS_URL"] == "redis://127.0.0.1:2/0"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mongodb://ada:secret@db:1/x", "mongodb://ada:***@db:1/x"),
        ("redis://:secret@cache/0", "redis://:***@cache/0"),
        ("redis://cache/0", "redis://cache/0"),
    ],
)
def test_no_password_is_printed(url: str, shown: str) -> None:
    assert up._without_password(url) == shown


def test_a_container_s_memory_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(up, "CGROUP_LIMIT", limit)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert up.usable_memory_bytes() == machine
    limit.write_text("max\n")
    assert up.usable_memory_bytes() == machine
    limit.write_text("1048576\n")
    assert up.usable_memory_bytes() == 1 << 20
