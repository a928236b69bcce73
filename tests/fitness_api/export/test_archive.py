import hashlib
import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.export.archive import HELD_BYTES, PIECE_BYTES, Archive, Written

AT_MS = 1_780_000_000_000


def taken(archive: Archive) -> bytes:
    return b"".join(archive.pieces())


def written(archive: Archive, name: str, *pieces: bytes) -> Written:
    archive.begin(name)
    for piece in pieces:
        archive.add(piece)
    return archive.end()


@given(
    entries=st.lists(st.tuples(st.lists(st.binary(max_size=300), max_size=4), st.booleans()), max_size=6),
)
def test_what_went_in_comes_out_however_often_it_is_taken(entries: list[tuple[list[bytes], bool]]) -> None:
    archive, out = Archive(at_ms=AT_MS), b""
    for number, (pieces, takes) in enumerate(entries):
        written(archive, f"{number}.bin", *pieces)
        if takes:
            out += taken(archive)
    archive.finish()
    out += taken(archive)
    archive.close()
    with zipfile.ZipFile(io.BytesIO(out)) as read:
        assert read.testzip() is None
        assert {name: read.read(name) for name in read.namelist()} == {
            f"{number}.bin": b"".join(pieces) for number, (pieces, _) in enumerate(entries)
        }
        for entry in archive.written:
            plain = read.read(entry.name)
            assert (entry.size_bytes, entry.sha256) == (len(plain), hashlib.sha256(plain).hexdigest())


def test_the_same_content_and_time_give_the_same_bytes() -> None:
    made = []
    for _ in range(2):
        archive = Archive(at_ms=AT_MS)
        written(archive, "a", b"x" * 1000)
        archive.finish()
        made.append(taken(archive))
        archive.close()
    assert made[0] == made[1]
    (info,) = zipfile.ZipFile(io.BytesIO(made[0])).infolist()
    assert info.date_time == (2026, 5, 28, 20, 26, 40)


def test_a_part_is_no_archive() -> None:
    archive = Archive(at_ms=AT_MS)
    written(archive, "a", b"x")
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(taken(archive)))
    archive.close()


def test_what_waits_is_taken_in_small_pieces_and_once() -> None:
    archive = Archive(at_ms=AT_MS)
    noise = hashlib.shake_256(b"noise").digest(HELD_BYTES * 2)
    written(archive, "a", noise)
    pieces = list(archive.pieces())
    assert {len(piece) for piece in pieces[:-1]} == {PIECE_BYTES}
    assert sum(map(len, pieces)) > HELD_BYTES
    assert taken(archive) == b""
    archive.close()


def test_it_is_let_go_of_in_the_middle_of_an_entry() -> None:
    """pytest turns what a destructor raises into a failure."""
    archive = Archive(at_ms=AT_MS)
    archive.begin("a")
    archive.add(b"x" * 100_000)
    archive.close()
    archive.close()
    del archive
