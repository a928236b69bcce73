import contextlib
import gzip
import io
import tracemalloc
import zipfile
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitness_api.errors import BodyTooLarge
from fitness_api.workouts import containers
from fitness_api.workouts.containers import format_of, is_rubbish, opened
from fitness_api.workouts.errors import FileDamaged, FormatUnknown
from tests.fitness_api.workouts.recordings import INDOOR, recorded

GPX = b'<?xml version="1.0"?><gpx version="1.1"/>'
TCX = b'<?xml version="1.0"?>\n<!-- an app -->\n<TrainingCenterDatabase/>'
LIMIT = 1024 * 1024


def zipped(*files: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (recorded(INDOOR), "fit"),
        (GPX, "gpx"),
        (TCX, "tcx"),
        (b'\xef\xbb\xbf<gpx:gpx xmlns:gpx="urn:x"/>', "gpx"),
        (GPX.decode().encode("utf-16"), "gpx"),
        (b"", None),
        (b"<html><body>Not found</body></html>", None),
        (b"PK\x03\x04", None),
    ],
)
def test_a_format_is_told_by_the_content(data: bytes, expected: str | None) -> None:
    assert format_of(data) == expected


def test_a_file_is_the_same_however_it_came() -> None:
    fit = recorded(INDOOR)
    rubbish = [("__MACOSX/ride/._ride.fit", b"\x00" * 40 + fit), ("ride/.DS_Store", b"x"), ("ride/Thumbs.db", b"x")]
    bodies = [
        fit,
        gzip.compress(fit),
        zipped(("ride.fit", fit)),
        zipped(*rubbish, ("ride/", b""), ("ride/ride.fit", fit), ("ride/photo.jpg", b"\xff\xd8")),
        zipped(("ride.fit.gz", gzip.compress(fit))),
        zipped(("no-suffix", fit)),
    ]
    expected = (fit, sha256(fit).hexdigest(), "fit")
    assert [opened(body, limit_bytes=LIMIT) for body in bodies] == [expected] * len(bodies)


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (b"", FormatUnknown),
        (b"no recording", FormatUnknown),
        (gzip.compress(b"no recording"), FormatUnknown),
        (zipped(), FormatUnknown),
        (zipped(("readme.txt", b"hello")), FormatUnknown),
        (zipped(("inner.zip", zipped(("a.gpx", GPX)))), FormatUnknown),
        (gzip.compress(GPX)[:-3], FileDamaged),
        (zipped(("a.gpx", GPX))[:40], FileDamaged),
        (zipped(("a.gpx", GPX), ("b.tcx", TCX)), FileDamaged),
        (zipped(*((f"{n}.txt", b"") for n in range(containers.MAX_ENTRIES + 1))), FileDamaged),
        (zipped(("a.gpx", GPX + b" " * LIMIT)), BodyTooLarge),
        (zipped(("a.txt", b" " * LIMIT), ("b.gpx", GPX)), BodyTooLarge),
        (zipped(("a.gpx.gz", gzip.compress(GPX + b" " * LIMIT))), BodyTooLarge),
        (gzip.compress(GPX + b" " * LIMIT), BodyTooLarge),
    ],
)
def test_what_is_no_single_recording_is_refused(body: bytes, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        opened(body, limit_bytes=LIMIT)


def test_an_encrypted_entry_is_refused() -> None:
    body = bytearray(zipped(("a.gpx", GPX)))
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        body[body.index(signature) + at] |= 1
    with pytest.raises(FileDamaged, match="encrypted"):
        opened(bytes(body), limit_bytes=LIMIT)


def test_an_entry_that_lies_about_its_size_is_counted() -> None:
    body = bytearray(zipped(("a.gpx", GPX + b" " * LIMIT)))
    at = body.index(b"PK\x01\x02") + 24
    body[at : at + 4] = (10).to_bytes(4, "little")
    with pytest.raises((FileDamaged, BodyTooLarge)):
        opened(bytes(body), limit_bytes=LIMIT)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("__MACOSX/x.fit", True),
        (".x.fit", True),
        ("a/.x", True),
        ("a\\Thumbs.db", True),
        ("a/x.fit", False),
        ("x", False),
    ],
)
def test_rubbish(name: str, expected: bool) -> None:
    assert is_rubbish(name) is expected


@settings(max_examples=300)
@given(st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 10_000))
def test_a_mutated_zip_is_refused_or_read(at: int, byte: int, cut: int) -> None:
    body = bytearray(zipped(("ride/a.gpx", GPX), ("ride/b.txt", b"x" * 200)))
    body[at % len(body)] = byte
    body = body[: len(body) - cut % 40]
    with contextlib.suppress(FormatUnknown, FileDamaged, BodyTooLarge):
        opened(bytes(body), limit_bytes=LIMIT)


def test_a_directory_of_countless_entries_is_refused_before_it_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    many = zipped(*((f"{number}.gpx", b"") for number in range(containers.MAX_ENTRIES + 1)))
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(FileDamaged, match="entries"):
        opened(many, limit_bytes=LIMIT)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_whose_output_the_library_does_not_bound_are_refused(method: int) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr("ride.gpx", GPX + bytes(32 * LIMIT))
    tracemalloc.start()
    try:
        with pytest.raises(FileDamaged):
            opened(packed.getvalue(), limit_bytes=LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 8 * LIMIT
    finally:
        tracemalloc.stop()


def test_an_entry_without_a_name_is_rubbish() -> None:
    assert opened(zipped(("?", b""), ("ride.gpx", GPX)).replace(b"?", b"\0"), limit_bytes=LIMIT).format == "gpx"
