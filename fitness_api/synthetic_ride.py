"""A made-up but plausible ride as a FIT file, for the demo where no recording is at hand.

The same start gives the same bytes. Source of the messages: the FIT SDK's profile, "Activity File".
"""

from datetime import UTC, datetime, timedelta
from math import cos, pi, sin
from typing import Any, Final

from garmin_fit_sdk import Encoder, Profile

DURATION_S: Final = 2_400
LAP_S: Final = 600
PAUSE_AT_S: Final = 1_260
PAUSE_S: Final = 75  # at a level crossing: elapsed time goes on, the timer does not
_LATITUDE, _LONGITUDE = 47.3769, 8.5417
_SEMICIRCLES_A_DEGREE: Final = 2**31 / 180
_METRES_A_DEGREE: Final = 111_320


def encode(*, started_at_ms: int) -> bytes:
    """Return a FIT activity: one ride, four laps, a sample each second but for one pause."""
    start = datetime.fromtimestamp(started_at_ms // 1000, UTC)
    encoder = Encoder()
    _write(
        encoder,
        "FILE_ID",
        type="activity",
        manufacturer="development",
        product=1,
        serial_number=20260101,
        time_created=start,
    )
    _write(encoder, "EVENT", timestamp=start, event="timer", event_type="start")
    distance_m, energy_j, heart_rates, powers = 0.0, 0.0, [], []
    for second in range(DURATION_S):
        recorded_at = start + timedelta(seconds=second + (PAUSE_S if second >= PAUSE_AT_S else 0))
        effort = 0.5 + 0.35 * sin(2 * pi * second / 480) + 0.1 * sin(2 * pi * second / 37)
        power_w = round(90 + 170 * effort)
        speed_mps = round(5.5 + 4.5 * effort - 1.5 * sin(2 * pi * second / 900), 3)
        heart_rate_bpm = round(105 + 55 * min(1, second / 300) * effort + 8 * min(1, second / 1200))
        distance_m += speed_mps
        energy_j += power_w / 0.24  # what the body spends for what the pedals get
        angle = 2 * pi * distance_m / 14_000
        heart_rates.append(heart_rate_bpm)
        powers.append(power_w)
        _write(
            encoder, "RECORD",
            timestamp=recorded_at,
            position_lat=round((_LATITUDE + 2_228 * (1 - cos(angle)) / _METRES_A_DEGREE) * _SEMICIRCLES_A_DEGREE),
            position_long=round((_LONGITUDE + 3_290 * sin(angle) / _METRES_A_DEGREE) * _SEMICIRCLES_A_DEGREE),
            distance=round(distance_m, 2),
            heart_rate=heart_rate_bpm,
            cadence=round(78 + 14 * effort),
            power=power_w,
            enhanced_speed=speed_mps,
            enhanced_altitude=round(430 + 60 * sin(2 * pi * second / 900), 1),
        )  # fmt: skip
    ended_at = start + timedelta(seconds=DURATION_S + PAUSE_S)
    for lap, first in enumerate(range(0, DURATION_S, LAP_S)):
        has_pause = first <= PAUSE_AT_S < first + LAP_S
        lap_start = start + timedelta(seconds=first + (PAUSE_S if first > PAUSE_AT_S else 0))
        _write(
            encoder, "LAP",
            message_index=lap,
            timestamp=lap_start + timedelta(seconds=LAP_S + (PAUSE_S if has_pause else 0)),
            start_time=lap_start,
            total_elapsed_time=LAP_S + (PAUSE_S if has_pause else 0),
            total_timer_time=LAP_S,
            total_distance=round(distance_m * LAP_S / DURATION_S, 2),
            avg_heart_rate=round(sum(heart_rates[first : first + LAP_S]) / LAP_S),
            lap_trigger="time",
        )  # fmt: skip
    _write(
        encoder, "SESSION",
        message_index=0,
        timestamp=ended_at,
        start_time=start,
        sport="cycling",
        sub_sport="road",
        total_elapsed_time=DURATION_S + PAUSE_S,
        total_timer_time=DURATION_S,
        total_distance=round(distance_m, 2),
        total_calories=round(energy_j / 4184),
        total_ascent=280,
        avg_heart_rate=round(sum(heart_rates) / DURATION_S),
        max_heart_rate=max(heart_rates),
        avg_power=round(sum(powers) / DURATION_S),
        first_lap_index=0,
        num_laps=DURATION_S // LAP_S,
    )  # fmt: skip
    _write(
        encoder, "ACTIVITY",
        timestamp=ended_at, total_timer_time=DURATION_S, num_sessions=1, type="manual", event="activity", event_type="stop",
    )  # fmt: skip
    return bytes(encoder.close())


def _write(encoder: Any, message: str, **fields: Any) -> None:
    encoder.write_mesg({"mesg_num": Profile["mesg_num"][message], **fields})
