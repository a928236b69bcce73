"""A FIT file to a Recording, by garmin-fit-sdk. Source: garmin_fit_sdk/decoder.py, whose `read` collects what it could read and
the errors that ended it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from garmin_fit_sdk import Decoder, Profile, Stream
from garmin_fit_sdk.decoder import DecodeMode
from garmin_fit_sdk.hr_mesg_utils import merge_heart_rates

from fitness_api.workouts import compressed_timestamps, fit
from fitness_api.workouts.recording import MAX_POINTS, MAX_SESSIONS, Recording, TooComplex

_HEADER_BYTES: Final = 14
_NUMBERS: Final[Mapping[str, int]] = Profile["mesg_num"]
_KEPT_WHOLE: Final = frozenset(
    _NUMBERS[name] for name in ("FILE_ID", "ACTIVITY", "SESSION", "LAP", "SPORT", "HR", "FIELD_DESCRIPTION")
)


class _Listener:
    """Counts messages, drops what is not read as soon as it is decoded, and gives heartbeats the time of their record."""

    def __init__(self) -> None:
        self._messages = 0
        self._latest: datetime | None = None

    def count(self, *_: Any) -> None:
        self._messages += 1
        if self._messages > MAX_POINTS:
            raise TooComplex(f"The file has over {MAX_POINTS} messages.")

    def hear(self, number: int, message: dict[Any, Any]) -> None:
        self.count()
        if number == _NUMBERS["RECORD"]:
            kept = {name: message[name] for name in fit.RECORD_FIELDS if name in message}
            message.clear()  # in place: the decoder holds the same dict, and clearing is what frees it
            message.update(kept)
            self._latest = kept.get("timestamp", self._latest)
        elif number == _NUMBERS["HRV"]:
            message["timestamp"] = self._latest
        elif number not in _KEPT_WHOLE:
            message.clear()


def recording(data: bytes) -> Recording:
    """Return the activity, or what could be read of it; without sessions where there is none. Raises TooComplex."""
    messages, errors = _read(data, DecodeMode.NORMAL)
    if any("Compressed timestamp" in str(error) for error in errors):
        try:
            data = compressed_timestamps.write_out(data, most_messages=MAX_POINTS)
        except compressed_timestamps.TooMany:
            raise TooComplex(f"The file has over {MAX_POINTS} messages.") from None
        messages, errors = _read(data, DecodeMode.NORMAL)
    if errors and not (messages.get("record_mesgs") or messages.get("session_mesgs")):
        # A device that died while recording has left the header's size at zero: read to the end, whatever it says.
        messages, _ = _read(data, DecodeMode.SKIP_HEADER)
    if len(messages.get("session_mesgs", ())) > MAX_SESSIONS:
        raise TooComplex(f"The file has over {MAX_SESSIONS} sessions.")
    lost = _merge_chest_strap(messages)
    read = fit.recording(messages, damaged=bool(errors))
    return msgspec.structs.replace(read, warnings=[*read.warnings, *lost])


def _read(data: bytes, mode: DecodeMode) -> tuple[Any, list[Exception]]:
    """Return the messages by name, which are what the file makes them, whatever the library's types say; and the errors."""
    if mode is not DecodeMode.NORMAL and len(data) <= _HEADER_BYTES:
        return {}, [ValueError("nothing after the header")]
    listener = _Listener()
    messages, errors = Decoder(Stream.from_byte_array(bytearray(data))).read(
        merge_heart_rates=False,
        mesg_listener=listener.hear,
        mesg_definition_listener=listener.count,
        decode_mode=mode,
    )
    for error in errors:
        if isinstance(error, TooComplex | MemoryError):
            raise error
    return messages, errors


def _merge_chest_strap(messages: Any) -> list[str]:
    """Swimming straps store heart rates under water and hand them over afterwards, in messages of their own."""
    stored = messages.get("hr_mesgs")
    if not stored:
        return []
    timed = [record for record in messages.get("record_mesgs", ()) if isinstance(record.get("timestamp"), datetime)]
    try:
        merge_heart_rates(stored, timed)
    except (LookupError, TypeError, ValueError, RuntimeError, ArithmeticError):
        return ["Heart rates that a chest strap stored could not be read."]
    return []
