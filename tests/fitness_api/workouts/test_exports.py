from typing import Any

import pytest

from fitness_api.workouts import exports, fit_writer, tcx_writer
from sync import tracks

AT = "2026-05-01T06:30:00.000Z"
BEYOND = "0001-01-01T00:00:00+14:00"  # of the year before the first one, in UTC


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00.001Z", 1),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000),
        (BEYOND, None),
        ("9999-12-31T23:59:59-01:00", None),
        ("2026-05-01T06:30:00", None),
        (5, None),
    ],
)
def test_instants(text: Any, ms: int | None) -> None:
    assert exports.instant_ms(text) == ms


@pytest.mark.parametrize(
    "document",
    [
        {"started_at": "0001-01-01T00:00:00Z"},
        {"started_at": AT, "elapsed_time_s": 2**53},
        {"started_at": AT, "laps": [{"started_at": BEYOND}, {"started_at": AT, "elapsed_time_s": 2**53}]},
        {"started_at": AT, "ended_at": "9999-12-31T23:59:59.999Z"},
        {"started_at": AT, "laps": [{"started_at": "9999-12-31T23:59:59.999Z", "timer_time_s": 2**53}]},
        {
            "started_at": AT,
            "utc_offset_s": 5,
            "laps": {"a": 1},
            "sport": ["run"],
            "distance_m": {},
            "energy_kcal": 2**53,
        },
    ],
)
def test_whatever_a_document_says_a_file_can_be_written(document: dict[str, Any]) -> None:
    late = tracks.check(
        stream="heart_rate", start_ms=tracks.MAX_START_MS - 1000, offsets_ms=[0, 1000], values=[2**53, -(2**53)]
    )
    for chunks in ({}, {"heart_rate": [late]}):
        session = exports.session(document, chunks)  # type: ignore[arg-type]
        assert session is not None
        assert fit_writer.written(session, utc_offset_s=-(2**53))
        assert "".join(tcx_writer.written(session)).endswith("</TrainingCenterDatabase>\n")
