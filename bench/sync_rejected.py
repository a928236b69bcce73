"""What a device's refused changes cost, and whether good ones wait for them: uploads behind ten thousand, beside some alone.

Refused is a workout of which one path is wrong, so that it is as large as a good one. All of them are kept in quarantine.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import httpx
import uvloop
from rich.console import Console

from bench import servers, workload
from bench.device import Device, signed_up
from bench.servers import Servers
from bench.tables import table
from bench.workload import Fields

GOOD = 100  # changes a request
GOOD_REQUESTS = 10
WHOLE = 1_000  # changes a request, all accepted or all refused
WHOLE_REQUESTS = 10
ROUNDS = 5


@dataclass
class Spent:
    """taken_ms: of each request; firsts_ms: of each round's first; processor time: of all of them."""

    taken_ms: list[float] = field(default_factory=list)
    firsts_ms: list[float] = field(default_factory=list)
    gateway_cpu_ms: float = 0
    mongod_cpu_ms: float = 0

    @property
    def medians(self) -> tuple[float, float, float]:
        """For a request, in ms: the median time; processor time of the gateway and of mongod."""
        count = len(self.taken_ms)
        return median(self.taken_ms), self.gateway_cpu_ms / count, self.mongod_cpu_ms / count


def run(console: Console, *, quick: bool) -> None:
    uvloop.run(_measure(console, quick=quick))


async def _measure(console: Console, *, quick: bool) -> None:
    rounds, whole = (2, WHOLE // 10) if quick else (ROUNDS, WHOLE)
    alone, behind, accepted, refused = Spent(), Spent(), Spent(), Spent()
    dice = random.Random(workload.SEED)
    async with servers.running() as running:
        for round_number in range(rounds):
            console.print(f"[dim]round {round_number + 1} of {rounds} …")
            # Three accounts of one gateway process: two that have nothing refused, and one that has.
            url = running.gateway.urls[round_number % servers.PROCESSES]
            without, full, poisoned = [_Sender(running, await _device(url)) for _ in range(3)]
            for sender in (without, full, poisoned):
                await sender.send(_good(dice, GOOD), "applied", Spent())  # opens connections
            for number in range(WHOLE_REQUESTS):
                pair = ((full, _good, "applied", accepted), (poisoned, _bad, "rejected", refused))
                for sender, make, status, spent in pair if number % 2 else reversed(pair):
                    await sender.send(make(dice, whole), status, spent)
            firsts = {id(spent): len(spent.taken_ms) for spent in (alone, behind)}
            # This way round a drift of the machine falls on both.
            for sender, spent in ((poisoned, behind), (without, alone), (without, alone), (poisoned, behind)):
                for _ in range(GOOD_REQUESTS // 2):
                    await sender.send(_good(dice, GOOD), "applied", spent)
            for spent in (alone, behind):
                spent.firsts_ms.append(spent.taken_ms[firsts[id(spent)]])
            for sender in (without, full, poisoned):
                sender.device.close()
    shown = table(
        f"{GOOD} good changes a request, ms (median of {rounds} rounds of {GOOD_REQUESTS})",
        "what", "request", "the first", "gateway CPU", "mongod CPU",
    )  # fmt: skip
    for what, spent in (("alone", alone), (f"behind {WHOLE_REQUESTS * whole:,} refused", behind)):
        taken, gateway, mongod = spent.medians
        shown.add_row(what, f"{taken:.1f}", f"{median(spent.firsts_ms):.1f}", f"{gateway:.1f}", f"{mongod:.1f}")
    shown.add_section()
    firsts_ratio = median(behind.firsts_ms) / median(alone.firsts_ms)
    taken, gateway, mongod = _ratios(behind, alone)
    shown.add_row("ratio", f"{taken:.2f}", f"{firsts_ratio:.2f}", f"{gateway:.2f}", f"{mongod:.2f}")
    console.print(shown)
    costs = table(
        f"{whole:,} changes a request: µs a change",
        "what",
        "request",
        "gateway CPU",
        "mongod CPU",
    )
    for what, spent in (("accepted", accepted), ("refused", refused)):
        costs.add_row(what, *(f"{1_000 * ms / whole:,.0f}" for ms in spent.medians))
    costs.add_section()
    costs.add_row("ratio", *(f"{ratio:.2f}" for ratio in _ratios(refused, accepted)))
    console.print(costs)


def _ratios(one: Spent, other: Spent) -> list[float]:
    # Processor time comes in ticks of 10 ms, of which a quick run may have none.
    return [mine / theirs if theirs else float("nan") for mine, theirs in zip(one.medians, other.medians, strict=True)]


class _Sender:
    def __init__(self, running: Servers, device: Device) -> None:
        self.device = device
        self._running = running

    async def send(self, changes: Sequence[tuple[str, Fields]], status: str, spent: Spent) -> None:
        body = self.device.encoded(changes)
        before, began = self._cpu_s(), time.perf_counter()
        answer = await self.device.round_trip(body)
        spent.taken_ms.append(1_000 * (time.perf_counter() - began))
        gateway_s, mongod_s = (now - then for now, then in zip(self._cpu_s(), before, strict=True))
        spent.gateway_cpu_ms += 1_000 * gateway_s
        spent.mongod_cpu_ms += 1_000 * mongod_s
        if [result.status for result in answer.results] != [status] * len(changes):
            raise AssertionError(f"not all {status}: {answer.results[:3]}")

    def _cpu_s(self) -> tuple[float, float]:
        return servers.cpu_s(self._running.gateway.processes), servers.cpu_s([self._running.mongod])


def _good(dice: random.Random, count: int) -> list[tuple[str, Fields]]:
    return [(name, workload.workout(dice)) for name in workload.workout_ids(dice, count)]


def _bad(dice: random.Random, count: int) -> list[tuple[str, Fields]]:
    """An element of a set is true or false."""
    return [(name, {**fields, "tags/outdoor": "yes"}) for name, fields in _good(dice, count)]


async def _device(url: str) -> Device:
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        return Device(await signed_up(http, url))
