"""`python -m fitness_api.workouts.decoder_process`: a file on standard input, a Recording as msgpack on standard output.

A process of its own for each file: a decoder of files from strangers may loop, eat memory or crash, and none of that may
reach the server. The exit code says why there is no Recording. Source: garmin_fit_sdk/decoder.py, whose `read` collects
what it could read and the errors that ended it.
"""

import resource
import sys
import traceback
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Final

import msgspec
from garmin_fit_sdk import Decoder, Profile, Stream
from garmin_fit_sdk.decoder import DecodeMode
from garmin_fit_sdk.hr_mesg_utils import merge_heart_rates

from fitness_api.workouts import compressed_timestamps, fit
from fitness_api.workouts.recording import MAX_SESSIONS, Recording
from sync.track_store import MAX_SAMPLES

EXIT_UNREADABLE: Final = 65  # EX_DATAERR of sysexits.h, and the numbers after it
EXIT_DAMAGED: Final = 66
EXIT_TOO_COMPLEX: Final = 67

MAX_FILE_BYTES: Final = 64 * 1024 * 1024  # 3 MB hold twelve hours; raw accelerometer recordings take the rest

# Records, beats and everything else a file may list: at two a second, 35 hours. 50 to 90 µs each, measured.
MAX_MESSAGES: Final = 250_000
CPU_S: Final = 30
# MAX_MESSAGES take some 300 MB, the file 64, Python and the profile 60.
MEMORY_BYTES: Final = 1024 * 1024 * 1024

_HEADER_BYTES: Final = 14
_NUMBERS: Final[Mapping[str, int]] = Profile["mesg_num"]
_KEPT_WHOLE: Final = frozenset(
    _NUMBERS[name] for name in ("FILE_ID", "ACTIVITY", "SESSION", "LAP", "SPORT", "HR", "FIELD_DESCRIPTION")
)


class TooComplex(Exception):
    """More messages or sessions than one file may have."""


class _Listener:
    """Counts messages, drops what is not read as soon as it is decoded, and gives heartbeats the time of their record."""

    def __init__(self) -> None:
        self._messages = 0
        self._latest: datetime | None = None

    def count(self, *_: Any) -> None:
        self._messages += 1
        if self._messages > MAX_MESSAGES:
            raise TooComplex(f"The file has over {MAX_MESSAGES} messages.")

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


def decode(data: bytes) -> Recording:
    """Return the activity, or what could be read of it; without sessions where there is none. Raises TooComplex."""
    messages, errors = _read(data, DecodeMode.NORMAL)
    if any("Compressed timestamp" in str(error) for error in errors):
        try:
            data = compressed_timestamps.write_out(data, most_messages=MAX_MESSAGES)
        except compressed_timestamps.TooMany:
            raise TooComplex(f"The file has over {MAX_MESSAGES} messages.") from None
        messages, errors = _read(data, DecodeMode.NORMAL)
    if errors and not (messages.get("record_mesgs") or messages.get("session_mesgs")):
        # A device that died while recording has left the header's size at zero: read to the end, whatever it says.
        messages, _ = _read(data, DecodeMode.SKIP_HEADER)
    if len(messages.get("session_mesgs", ())) > MAX_SESSIONS:
        raise TooComplex(f"The file has over {MAX_SESSIONS} sessions.")
    lost = _merge_chest_strap(messages)
    recording = fit.recording(messages, damaged=bool(errors))
    for session in recording.sessions:
        if sum(len(samples.values) for samples in session.streams.values()) > MAX_SAMPLES:
            raise TooComplex(f"A session has over {MAX_SAMPLES} samples.")
    return msgspec.structs.replace(recording, warnings=[*recording.warnings, *lost])


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


def _show(kind: type[BaseException], _: BaseException, where: TracebackType | None) -> None:
    """Say what failed where, without the message, which may quote a user's health data into our log."""
    traceback.print_tb(where)
    sys.stderr.write(f"{kind.__name__}\n")


def main() -> int:
    sys.excepthook = _show
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    try:
        if len(data) > MAX_FILE_BYTES:
            return EXIT_TOO_COMPLEX
        recording = decode(data)
        if not recording.sessions:
            return EXIT_DAMAGED if recording.is_damaged else EXIT_UNREADABLE
        sys.stdout.buffer.write(msgspec.msgpack.encode(recording))
        sys.stdout.buffer.flush()
    except (TooComplex, MemoryError):
        return EXIT_TOO_COMPLEX
    return 0


if __name__ == "__main__":
    sys.exit(main())
