"""What came to the file in it: as it is, in gzip, or alone in a zip among what archivers leave there.

A zip's own claims (sizes, names) are believed as far as they refuse it; what is read is counted.
"""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from fitness_api.content_codings import BoundedDecoder
from fitness_api.errors import BodyTooLarge, MalformedBody
from fitness_api.workouts.errors import FileDamaged, FormatUnknown
from fitness_api.workouts.recording import FileFormat

_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK\x03\x04"
_EMPTY_ZIP: Final = b"PK\x05\x06"
_ENTRY: Final = b"PK\x01\x02"  # begins each line of a zip's directory
_FIT: Final = b".FIT"
_FIT_AT: Final = slice(8, 12)

# An XML declaration and a comment may stand before the root; no app writes more.
_SNIFFED_BYTES: Final = 4_096

# A folder of one activity: the file, its picture, its rubbish. A zip of many is imported as many.
MAX_ENTRIES: Final = 100

_PIECE_BYTES: Final = 256 * 1024

# What archivers write. Of bzip2 and LZMA the library decompresses a piece whole, however large: 256 KiB of it may hold gigabytes.
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})


class File(NamedTuple):
    """data: decompressed. sha256: of it, in hex."""

    data: bytes
    sha256: str
    format: FileFormat


def opened(body: bytes, *, limit_bytes: int) -> File:
    """Raises FormatUnknown, FileDamaged, or BodyTooLarge if more than `limit_bytes` come out of it."""
    data = body
    if body.startswith((_ZIP, _EMPTY_ZIP)):
        data = _only_recording(body, limit_bytes)
    elif body.startswith(_GZIP):
        data = unzipped(body, limit_bytes=limit_bytes)
    found = format_of(data)
    if found is None:
        raise FormatUnknown
    return File(data, hashlib.sha256(data).hexdigest(), found)


def format_of(data: bytes) -> FileFormat | None:
    """Tell by the content, as names lie."""
    if data[_FIT_AT] == _FIT:
        return "fit"
    head = data[:_SNIFFED_BYTES]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head.decode("utf-16", errors="replace").encode()
    if b"<TrainingCenterDatabase" in head:
        return "tcx"
    # Some apps write a prefix: <gpx:gpx.
    return "gpx" if b"<gpx" in head else None


def unzipped(body: bytes, *, limit_bytes: int) -> bytes:
    """Undo gzip. Raises FileDamaged or BodyTooLarge."""
    decompressor = BoundedDecoder(("gzip",), limit_bytes=limit_bytes)
    try:
        data = b"".join(decompressor.feed(body))
        decompressor.finish()
    except MalformedBody:
        raise FileDamaged("The file is not the gzip that it claims to be, or ends too early.") from None
    return data


def is_rubbish(name: str) -> bool:
    """Whether it is what archivers of macOS and Windows leave beside the files."""
    parts = name.replace("\\", "/").split("/")
    return not parts[-1] or parts[-1].startswith(".") or "__MACOSX" in parts or parts[-1].lower() == "thumbs.db"


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, *, limit_bytes: int) -> bytes:
    """Raises FileDamaged, or BodyTooLarge however small the entry claims to be."""
    if entry.flag_bits & 1:
        raise FileDamaged("The zip is encrypted.")
    if entry.compress_type not in _METHODS:
        raise FileDamaged("A file in the zip is compressed in a way that is not read here.")
    pieces: list[bytes] = []
    size = 0
    try:
        with archive.open(entry) as stream:
            while piece := stream.read(_PIECE_BYTES):
                size += len(piece)
                if size > limit_bytes:
                    raise BodyTooLarge(limit_bytes=limit_bytes)
                pieces.append(piece)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError) as error:
        raise FileDamaged("A file in the zip is damaged.") from error
    data = b"".join(pieces)
    return unzipped(data, limit_bytes=limit_bytes) if data.startswith(_GZIP) else data


def entries_of(body: bytes, *, most: int) -> Iterator[tuple[zipfile.ZipFile, zipfile.ZipInfo]]:
    """Give the files of a zip that are no rubbish. Raises FileDamaged, also where there are more than `most` entries."""
    # Before the library lists them: an entry takes 46 bytes of the file, and some 600 in memory.
    if body.count(_ENTRY) > most:
        raise FileDamaged(f"The zip has over {most} entries.")
    try:
        archive = zipfile.ZipFile(io.BytesIO(body))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FileDamaged("The file is not the zip that it claims to be, or ends too early.") from error
    with archive:
        for entry in archive.infolist():
            if not is_rubbish(entry.filename) and not entry.is_dir():  # without a name it is no directory but an error
                yield archive, entry


def _only_recording(body: bytes, limit_bytes: int) -> bytes:
    found: bytes | None = None
    left = limit_bytes
    for archive, entry in entries_of(body, most=MAX_ENTRIES):
        data = read_entry(archive, entry, limit_bytes=left)
        left -= len(data)
        if format_of(data) is None:
            continue
        if found is not None:
            raise FileDamaged("The zip holds several recordings; import it as an archive.")
        found = data
    if found is None:
        raise FormatUnknown
    return found
