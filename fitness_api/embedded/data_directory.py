"""The one folder that `fitness-api up` keeps: databases, logs, ports once chosen, and the secrets made once.

.data/
  up.lock        held (flock) while in use; names the holder
  ports.json     the servers' ports, kept from the first start on
  secrets.json   the master key, readable by its owner only
  mongod/  valkey/  mail/  logs/
"""

import base64
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fitness_api.embedded.errors import DataDirectoryInUse, DataDirectoryUnusable, DiskFull, PortTaken
from fitness_api.settings import MASTER_KEY_BYTES

LOOPBACK = "127.0.0.1"
# A fresh mongod writes 0.3 GiB (three preallocated journal files); below this it stops in the middle of its work.
MIN_FREE_BYTES = 512 << 20
# Past this a log is moved aside; with its predecessor a server's logs take at most twice as much.
MAX_LOG_BYTES = 32 << 20
# After a kill -9 the kernel needs a moment to end the servers that held these ports.
PORT_FREED_WITHIN_S = 5.0


class DataDirectory:
    def __init__(self, path: Path, *, unclean: bool) -> None:
        self.path = path
        self.unclean = unclean
        self.mongod = path / "mongod"
        self.valkey = path / "valkey"
        self.mail = path / "mail"
        self.logs = path / "logs"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def require_space(self, needed_bytes: int = MIN_FREE_BYTES) -> None:
        """Raises DiskFull if less is free."""
        free_bytes = shutil.disk_usage(self.path).free
        if free_bytes < needed_bytes:
            raise DiskFull(path=self.path, free_bytes=free_bytes, needed_bytes=needed_bytes)

    def ports(self, defaults: Mapping[str, int]) -> dict[str, int]:
        """Returns a free loopback port for each name: the remembered one, else the default, else any.

        Clients keep database URLs, so what was once chosen stays. Raises PortTaken if a remembered one is taken.
        """
        remembered = self._read("ports.json")
        ports = {}
        for name, default in defaults.items():
            port = remembered.get(name)
            if port is None:
                ports[name] = default if is_free(default) else free_port()
            elif isinstance(port, int) and (is_free(port) or (self.unclean and _becomes_free(port))):
                ports[name] = port
            else:
                raise PortTaken(
                    port=port,
                    what=name,
                    remedy=f"Stop what listens there, or delete {self.path / 'ports.json'} to have another chosen.",
                )
        if ports != remembered:
            self._write("ports.json", {**remembered, **ports})
        return ports

    def master_key(self, draw: Callable[[int], bytes] = os.urandom) -> str:
        """Returns the key in base64, made at the first call and kept for good: losing it ends every login."""
        secrets = self._read("secrets.json")
        if "master_key" not in secrets:
            secrets["master_key"] = base64.b64encode(draw(MASTER_KEY_BYTES)).decode()
            self._write("secrets.json", secrets)
        (self.path / "secrets.json").chmod(0o600)
        return str(secrets["master_key"])

    def rotate_logs(self) -> None:
        for log in self.logs.glob("*.log"):
            log.replace(log.with_name(f"{log.name}.1"))

    def bound_logs(self) -> None:
        """Moves aside what outgrew its bound while it is being written to.

        The writer holds the file open for appending, so it is copied and cut, not renamed; lines written in between
        are lost.
        """
        for log in self.logs.glob("*.log"):
            if log.stat().st_size > MAX_LOG_BYTES:
                shutil.copyfile(log, log.with_name(f"{log.name}.1"))
                os.truncate(log, 0)

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            with _usable(path):
                value = json.loads(path.read_text()) if path.exists() else {}
        except ValueError as error:
            raise DataDirectoryUnusable(path=path, reason=f"it is not JSON ({error})") from error
        if not isinstance(value, dict):
            raise DataDirectoryUnusable(path=path, reason="it is not a JSON object")
        return value

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        """Whole or not at all, also through a crash; readable by the owner only."""
        fresh = self.path / f".{name}.new"
        with _usable(self.path / name):
            fresh.unlink(missing_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(value, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path / name)


@contextmanager
def opened(path: Path) -> Iterator[DataDirectory]:
    """Holds the directory for this process; made if it is not there, with room for its owner only.

    Raises DataDirectoryInUse, DataDirectoryUnusable or DiskFull.
    """
    path = path.absolute()
    with _usable(path):
        path.mkdir(parents=True, mode=0o700, exist_ok=True)
        lock = os.open(path / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            # The kernel lets go of it however the holder ends, so a lock cannot go stale; its text can.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(lock, 32, 0).decode(errors="replace").strip()
            raise DataDirectoryInUse(path=path, holder=f"process {pid}" if pid else "another process") from None
        # Only a holder that was killed leaves its text behind.
        directory = DataDirectory(path, unclean=bool(os.pread(lock, 1, 0)))
        try:
            with _usable(path):
                os.ftruncate(lock, 0)
                directory.require_space()
                os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
                for folder in (directory.mongod, directory.valkey, directory.mail, directory.logs):
                    folder.mkdir(mode=0o700, exist_ok=True)
                directory.rotate_logs()
            yield directory
        finally:
            os.ftruncate(lock, 0)
    finally:
        os.close(lock)


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataDirectoryUnusable(path=path, reason=error.strerror or str(error)) from error


def is_free(port: int, host: str = LOOPBACK) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: without it a port counts as taken for a minute after its last connection.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """Nothing holds it: between this answer and its use another process may take it, and the server will say so."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _becomes_free(port: int) -> bool:
    give_up_at = time.monotonic() + PORT_FREED_WITHIN_S
    while not is_free(port):
        if time.monotonic() >= give_up_at:
            return False
        time.sleep(0.1)
    return True
