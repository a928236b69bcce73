"""Everything that we hold of an account, streamed as one zip.

What is read from the database is first written, compressed, to where the archive waits, and then handed out: a whole holding of
one moment, else an entry. So nothing of the database is held open while a client takes its time, and memory is bounded
whatever an account holds; the largest thing that waits on disk is an account's documents, compressed, or one imported file.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, Final
from uuid import uuid4

from msgspec import json

from fitness_api.bodies import rfc3339
from fitness_api.errors import ExportInProgress, NotAuthenticated
from fitness_api.export.archive import Archive
from fitness_api.export.holdings import HOLDINGS, Entry, Sources, withheld
from fitness_api.leases import Leases
from sync.errors import StoreUnavailable

# Archives that are put together at once in one process; handing out is not counted. Each keeps one core's thread busy.
AT_ONCE: Final = 2
LEASE_S: Final = (
    600  # longer than an entry takes; of a process that died, its account's next export waits so long at most
)
KEPT_EVERY_S: Final = 60
CHECKED_EVERY_S: Final = 5  # within this time an ended session takes no more; the protocol's number
LONGEST_S: Final = 6 * 3600  # 10 GiB at 0.5 MB a second; whoever takes less would hold a place for ever
# What is smaller costs more to hand to a thread than to compress.
_THREAD_BYTES: Final = 8 * 1024


class Exports:
    def __init__(self, sources: Sources, leases: Leases, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._sources = sources
        self._leases = leases
        self._monotonic_s = monotonic_s
        self._building = asyncio.Semaphore(AT_ONCE)

    async def of(self, user_id: str, *, now_ms: int, goes_on: Callable[[], Awaitable[bool]]) -> AsyncGenerator[bytes]:
        """Give the archive. What was given is a part without a directory, and unreadable, until all of it was.

        `goes_on` is asked now and then whether whoever takes it still may. Raises ExportInProgress before anything is given,
        NotAuthenticated, and StoreUnavailable.
        """
        name, holder = f"export/{user_id}", str(uuid4())
        if not await self._leases.take(name, holder, for_s=LEASE_S):
            raise ExportInProgress
        archive = Archive(at_ms=now_ms)
        begun_s = kept_s = checked_s = self._monotonic_s()
        try:
            async with aclosing(self._written(archive, user_id, now_ms)) as steps:
                while True:
                    async with self._building:
                        if await anext(steps, None) is None:
                            break
                    for piece in archive.pieces():
                        yield piece
                        now_s = self._monotonic_s()
                        if now_s - checked_s > CHECKED_EVERY_S:
                            checked_s = now_s
                            if now_s - begun_s > LONGEST_S or not await goes_on():
                                raise NotAuthenticated("The session has ended, or the export has taken too long.")
                        if now_s - kept_s > KEPT_EVERY_S:
                            kept_s = now_s
                            await self._leases.take(name, holder, for_s=LEASE_S)
        finally:
            archive.close()
            with suppress(StoreUnavailable):  # then it ends by itself
                await self._leases.leave(name, holder)

    async def _written(self, archive: Archive, user_id: str, now_ms: int) -> AsyncGenerator[bool]:
        """Write the archive; each time that it gives something, what waits may be taken."""
        await _write(archive, Entry("README.txt", _once(_readme(user_id, now_ms))))
        for holding in HOLDINGS.values():
            async with aclosing(holding.entries(self._sources, user_id, now_ms)) as entries:
                async for entry in entries:
                    await _write(archive, entry)
                    if not holding.is_of_one_moment:
                        yield True
            yield True
        await _write(archive, Entry("manifest.json", _manifest(archive, user_id, now_ms)))
        archive.finish()
        yield True


async def _write(archive: Archive, entry: Entry) -> None:
    is_begun = False
    async for piece in entry.pieces:
        if not is_begun:
            is_begun = True
            archive.begin(entry.name)
        if len(piece) < _THREAD_BYTES:
            archive.add(piece)
        else:
            await asyncio.to_thread(archive.add, piece)
    if not is_begun:
        if entry.is_optional:
            return
        archive.begin(entry.name)
    archive.end()


async def _once(piece: bytes) -> AsyncIterator[bytes]:
    yield piece


async def _manifest(archive: Archive, user_id: str, now_ms: int) -> AsyncIterator[bytes]:
    """In pieces, as there may be very many entries."""
    about: dict[str, Any] = {
        "format": "fitness-export",
        "version": 1,
        "user_id": user_id,
        "created_at": rfc3339(now_ms),
        "withheld": [{"what": what, "why": why} for what, why in withheld()],
    }
    yield json.encode(about)[:-1] + b',"entries":['
    for number, written in enumerate(archive.written):
        line = json.encode({"name": written.name, "size_bytes": written.size_bytes, "sha256": written.sha256})
        yield (b",\n" if number else b"\n") + line
    yield b"\n]}\n"


def _readme(user_id: str, now_ms: int) -> bytes:
    lines = [
        "Everything that this service holds about the account",
        f"{user_id}, as of {rfc3339(now_ms)}.",
        "",
        "Files that end in .ndjson hold one JSON object a line. Instants are UTC. Units are in the names of numbers.",
        "manifest.json lists every file with its size and SHA-256; an archive without it was cut off.",
        "",
        *(f"{holding.about}\n" for holding in HOLDINGS.values()),
        "Withheld:",
        *(f"- {what}: {why}" for what, why in withheld()),
        "",
    ]
    return "\n".join(lines).encode()
