"""Files to Recordings, each in a process of its own, a few at a time."""

import asyncio
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL, SIGXCPU
from typing import Final

import msgspec

from fitness_api.workouts import decoder_process
from fitness_api.workouts.errors import DecoderBusy, FileDamaged, FileTooComplex, FileUnreadable, WorkoutsError
from fitness_api.workouts.recording import Recording

# The child's own bound is computing time; this one also ends a machine's that has none to spare.
WALL_CLOCK_S: Final = 60
# Files of up to 64 MiB wait in memory.
WAITING_PER_WORKER: Final = 4
# Of all files together, while they come and wait: 2 KB of zstd are 64 MiB. Real files have 0.3 MB.
MAX_HELD_BYTES: Final = 256 * 1024 * 1024
RETRY_AFTER_S: Final = 5  # a file takes some 0.5 s

_SHOWN_BYTES: Final = 2_000  # the end of a traceback
_MODULE: Final = "fitness_api.workouts.decoder_process"
_ROOT: Final = Path(__file__).parents[2]

_REFUSALS: Final[Mapping[int, Callable[[], WorkoutsError]]] = {
    decoder_process.EXIT_UNREADABLE: lambda: FileUnreadable("There is no recorded activity in the file."),
    decoder_process.EXIT_DAMAGED: lambda: FileDamaged("The file is cut off or corrupt, and no part of it can be read."),
    decoder_process.EXIT_TOO_COMPLEX: lambda: FileTooComplex("The file has more records than one import may have."),
    -SIGXCPU: lambda: FileTooComplex("The file takes too long to read."),
    -SIGKILL: lambda: FileTooComplex("The file takes too long to read."),
}

_log = logging.getLogger("fitness_api.workouts.decoder")


class Decoder:
    """`workers` files are read at once; so many more may wait that none waits for long."""

    def __init__(self, *, workers: int) -> None:
        self._free = asyncio.Semaphore(workers)
        self._places = workers * (1 + WAITING_PER_WORKER)
        self._held_bytes = 0

    @contextmanager
    def room(self) -> Iterator[Callable[[int], None]]:
        """Give what must be called with the length of each piece of a file before it is kept; at the end all of it is free again.

        What it gives raises DecoderBusy where all files together would take over MAX_HELD_BYTES.
        """
        held_bytes = 0

        def keep(size_bytes: int) -> None:
            nonlocal held_bytes
            if self._held_bytes + size_bytes > MAX_HELD_BYTES:
                raise DecoderBusy(retry_after_s=RETRY_AFTER_S)
            self._held_bytes += size_bytes
            held_bytes += size_bytes

        try:
            yield keep
        finally:
            self._held_bytes -= held_bytes

    async def decode(self, data: bytes) -> Recording:
        """Raises FileUnreadable, FileDamaged, FileTooComplex, or DecoderBusy if too many files wait.

        The process is dead when this returns, raises or is cancelled.
        """
        if self._places == 0:
            raise DecoderBusy(retry_after_s=RETRY_AFTER_S)
        self._places -= 1
        try:
            async with self._free:
                return await _decode(data)
        finally:
            self._places += 1


async def _decode(data: bytes) -> Recording:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", _MODULE, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=_environment()
    )  # fmt: skip
    try:
        async with asyncio.timeout(WALL_CLOCK_S):
            out, said = await process.communicate(data)
    except TimeoutError:
        raise FileTooComplex("The file takes too long to read.") from None
    finally:
        await _end(process)
    if process.returncode == 0:
        return await asyncio.to_thread(msgspec.msgpack.decode, out, type=Recording)  # of up to 100 MB
    refusal = _REFUSALS.get(process.returncode or 0)
    if refusal is None:
        _log.error(
            "The decoder's process ended with %s: %s", process.returncode, said[-_SHOWN_BYTES:].decode(errors="replace")
        )
        raise FileUnreadable("The file cannot be read.")
    raise refusal()


async def _end(process: Process) -> None:
    """Reap the process, killing it where it still runs. A second cancellation does not leave a zombie: the loop waits on."""
    if process.returncode is None:
        process.kill()
    await asyncio.shield(process.wait())


def _environment() -> dict[str, str]:
    """None of our secrets: the process reads strangers' files."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {"PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
