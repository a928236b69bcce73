"""A zip archive that comes out while it is written: entries in, bytes out, with the SHA-256 of each entry.

    archive = Archive(at_ms=…)
    archive.begin("README.txt"); archive.add(b"…"); archive.end()
    archive.finish()
    for piece in archive.pieces(): …

What was written and not taken yet waits in memory, beyond HELD_BYTES in an unnamed file. The container is the standard
library's, written as to a pipe: sizes follow each entry, and zip64 wherever an entry may be larger than 4 GiB.
"""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from tempfile import SpooledTemporaryFile
from typing import IO, Final, NamedTuple, cast
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

HELD_BYTES: Final = 1024 * 1024
PIECE_BYTES: Final = 64 * 1024  # as much as a connection buffers before it makes its writer wait
# Level 6 makes tracks 8 % smaller than level 3, in nearly three times the time (20 MB a second).
_LEVEL: Final = 3
_READABLE_BY_ALL: Final = 0o100644 << 16


class Written(NamedTuple):
    """An entry as the manifest lists it; `sha256` in hex, of the entry's own bytes."""

    name: str
    size_bytes: int
    sha256: str


class Archive:
    """Not for two threads at once, but for one after the other."""

    def __init__(self, *, at_ms: int) -> None:
        self._date = datetime.fromtimestamp(at_ms / 1000, UTC).timetuple()[:6]
        self._waiting: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(HELD_BYTES)  # noqa: SIM115  `close` does
        self._zip = ZipFile(cast("IO[bytes]", _Pipe(self._waiting)), "w", ZIP_DEFLATED, compresslevel=_LEVEL)
        self._entry: IO[bytes] | None = None
        self._name = ""
        self._size_bytes = 0
        self._hash = hashlib.sha256()
        self.written: list[Written] = []

    def begin(self, name: str) -> None:
        info = ZipInfo(name, self._date)
        info.compress_type = ZIP_DEFLATED
        info._compresslevel = _LEVEL  # type: ignore[attr-defined]  # noqa: SLF001  which a ZipInfo of one's own lacks
        info.external_attr = _READABLE_BY_ALL
        # An entry's size is known when it is over, and its header, which is gone by then, says how it will be told.
        self._entry = self._zip.open(info, "w", force_zip64=True)
        self._name, self._size_bytes, self._hash = name, 0, hashlib.sha256()

    def add(self, piece: bytes) -> None:
        assert self._entry is not None, "an entry was begun"
        self._entry.write(piece)
        self._hash.update(piece)
        self._size_bytes += len(piece)

    def end(self) -> Written:
        assert self._entry is not None, "an entry was begun"
        self._entry.close()
        self._entry = None
        done = Written(self._name, self._size_bytes, self._hash.hexdigest())
        self.written.append(done)
        return done

    def finish(self) -> None:
        """Write the directory, without which nothing can read the archive: a part is never taken for the whole."""
        self._zip.close()

    @property
    def waiting_bytes(self) -> int:
        return self._waiting.tell()

    def pieces(self) -> Iterator[bytes]:
        """Take what was written since the last time; between the first and the last of them nothing is written."""
        self._waiting.seek(0)
        while piece := self._waiting.read(PIECE_BYTES):
            yield piece
        self._waiting.seek(0)
        self._waiting.truncate()

    def close(self) -> None:
        """Let go of what waits, also in the middle of an entry."""
        if self._entry is not None:
            self._zip.fp = cast("IO[bytes]", _Nowhere())
            self._entry.close()
            self._entry = None
        self._zip.fp = None  # else it would write its directory when it is collected
        self._waiting.close()


class _Pipe:
    """A file that can only be written to, so that nothing is gone back to."""

    def __init__(self, into: IO[bytes]) -> None:
        self._into = into

    def write(self, data: bytes) -> int:
        return self._into.write(data)

    def flush(self) -> None:
        pass


class _Nowhere(_Pipe):
    """For the end of an entry that nobody will read."""

    def __init__(self) -> None:
        pass

    def write(self, data: bytes) -> int:
        return len(data)

    def tell(self) -> int:
        return 0
