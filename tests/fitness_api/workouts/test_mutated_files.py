"""Real files, mutated: whatever comes, a decoder gives a Recording that can be stored, or one of its own refusals."""

import math
import random
from uuid import UUID

import pytest

from fitness_api.workouts.decoder_process import decode
from fitness_api.workouts.imports import chunks, document_values
from fitness_api.workouts.recording import Recording, TooComplex
from tests.fitness_api.workouts.recordings import recorded

SMALL = ["activity_5039744860.gpx", "activity_5039744860.tcx", "2020-06-01-16-52-40.fit"]
WORKOUT = "0190a0b0-0000-7000-8000-00000000000b"

# What breaks parsers of text: markup, numbers beside the road, and other encodings.
SCRAPS = [
    b"<", b">", b"</trkseg>", b"<trk>", b"<Lap>", b"</Activity>", b"NaN", b"-1e309", b"9" * 400, b"\x00", b"\xff\xfe", b"&amp;", b"&#0;",
    b"<![CDATA[", b"]]>", b"<?x ?>", b"2026-13-99T99:99:99Z", b"0001-01-01T00:00:00Z", b"9999-12-31T23:59:60+23:59", b'"', b"'",
]  # fmt: skip


def mutated(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 2, 5, 40))):
        at = dice.randrange(len(changed))
        match dice.randrange(5):
            case 0:
                changed[at] = dice.randrange(256)
            case 1:
                changed[at:at] = dice.choice(SCRAPS)
            case 2:
                del changed[at : at + dice.choice((1, 7, 300))]
            case 3:
                changed[at:at] = changed[at : at + dice.choice((10, 400))]
            case 4 if len(changed) > 1_000:
                del changed[max(500, at) :]
            case _:
                pass
    return bytes(changed)


def require_storable(recording: Recording) -> None:
    for session in recording.sessions:
        assert session.started_at_ms <= session.ended_at_ms
        for chunk_id, chunk in chunks(UUID(WORKOUT), session):  # raises where a chunk would be refused
            assert chunk_id
            assert chunk.values
        for value in document_values(WORKOUT, session, recording).values():
            assert not isinstance(value, float) or math.isfinite(value)


@pytest.mark.parametrize("name", SMALL)
def test_a_mutated_file_is_read_or_refused(name: str) -> None:
    data = recorded(name)
    dice = random.Random(name)
    read = 0
    for _ in range(150):
        changed = mutated(data, dice)
        try:
            recording = decode(changed)
        except TooComplex:
            continue
        read += bool(recording.sessions)
        require_storable(recording)
    assert read > 30  # else the mutations say nothing of what follows the parser
