"""`python -m fitness_api.workouts.decoder_process`: a file on standard input, a Recording as msgpack on standard output.

A process of its own for each file: a decoder of files from strangers may loop, eat memory or crash, and none of that may
reach the server. The exit code says why there is no Recording.
"""

import resource
import sys
import traceback
from types import TracebackType
from typing import Final

import msgspec

from fitness_api.workouts import containers, fit_file, gpx_file, tcx_file
from fitness_api.workouts.recording import MAX_LAPS, MAX_SESSIONS, Recording, TooComplex
from sync.track_store import MAX_SAMPLES

EXIT_UNREADABLE: Final = 65  # EX_DATAERR of sysexits.h, and the numbers after it
EXIT_DAMAGED: Final = 66
EXIT_TOO_COMPLEX: Final = 67

MAX_FILE_BYTES: Final = 64 * 1024 * 1024  # 3 MB hold twelve hours; raw accelerometer recordings take the rest

CPU_S: Final = 30
# MAX_POINTS take some 300 MB, the file 64, Python and the profile 60.
MEMORY_BYTES: Final = 1024 * 1024 * 1024


def decode(data: bytes) -> Recording:
    """Return the activity, or what could be read of it; without sessions where there is none. Raises TooComplex."""
    match containers.format_of(data):
        case "gpx":
            found = gpx_file.recording(data)
        case "tcx":
            found = tcx_file.recording(data)
        case _:
            found = fit_file.recording(data)
    if len(found.sessions) > MAX_SESSIONS:
        raise TooComplex(f"The file has over {MAX_SESSIONS} sessions.")
    for session in found.sessions:
        if sum(len(samples.values) for samples in session.streams.values()) > MAX_SAMPLES:
            raise TooComplex(f"A session has over {MAX_SAMPLES} samples.")
        if len(session.laps) > MAX_LAPS:
            raise TooComplex(f"A session has over {MAX_LAPS} laps.")
    return found


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
