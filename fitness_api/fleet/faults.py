"""What goes wrong for a device: on its way to the API, with its clock, and in its store. Dice come in as values."""

import asyncio
from collections import Counter
from collections.abc import Set as AbstractSet
from random import Random
from typing import Final, Literal, get_args

import httpx
from msgspec.structs import replace

from sync import replica_state
from sync.replica_state import StoredDocument

Fault = Literal["drop", "duplicate", "delay", "reset", "clock", "crash", "corrupt"]
FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)

# Of requests: often enough to bite within seconds, seldom enough that most round trips succeed.
CHANCE: Final = 0.1
LONGEST_DELAY_S: Final = 0.5

DAY_MS: Final = 86_400_000
# A phone without network time, one in another decade, and one within the minute that the server believes.
CLOCK_ERRORS_MS: Final = (-10 * 365 * DAY_MS, -DAY_MS, -1_000, 0, 30_000, 61_000, 3_600_000, 10 * 365 * DAY_MS)


class FaultyTransport(httpx.AsyncBaseTransport):
    """Loses requests and responses, sends requests twice, and is slow. `faults` may change at any time."""

    def __init__(
        self, inner: httpx.AsyncBaseTransport, faults: AbstractSet[Fault], dice: Random, met: Counter[str]
    ) -> None:
        self.faults = faults
        self._inner = inner
        self._dice = dice
        self._met = met

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._happens("delay"):
            await asyncio.sleep(self._dice.random() * LONGEST_DELAY_S)
        is_dropped = self._happens("drop")
        if is_dropped and self._dice.random() < 0.5:
            raise httpx.ConnectError("The request was lost.", request=request)
        if self._happens("duplicate"):
            first, second = await asyncio.gather(self._whole(request), self._whole(request))
            response = self._dice.choice((first, second))
        else:
            response = await self._whole(request)
        if is_dropped:
            raise httpx.ReadError("The response was lost.", request=request)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()

    def _happens(self, fault: Fault) -> bool:
        if fault not in self.faults or self._dice.random() >= CHANCE:
            return False
        self._met[fault] += 1
        return True

    async def _whole(self, request: httpx.Request) -> httpx.Response:
        """Read to its end here, so that a connection is free again whatever becomes of the response."""
        response = await self._inner.handle_async_request(request)
        await response.aread()
        return response


def corrupted(snapshot: bytes, dice: Random) -> bytes:
    """Return a store that lost documents and registers, and went back to older ones; cursor and queue are whole."""
    stored = replica_state.decode(snapshot)
    kept = [_hurt(one, dice) for one in stored.answered if dice.random() < 0.9]
    return replica_state.encode(replace(stored, answered=kept))


def _hurt(document: StoredDocument, dice: Random) -> StoredDocument:
    registers = {
        path: (value, stamp - 4096 if dice.random() < 0.05 else stamp)
        for path, (value, stamp) in document.registers.items()
        if dice.random() < 0.95
    }
    return replace(document, registers=registers)
