"""What a pull costs in a big account, beside a small one: a device that comes for ten changes should not pay for the others."""

import random
import time
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

import httpx
import uvloop
from rich.console import Console

from bench import servers, workload
from bench.device import Device, another_device, load, signed_up
from bench.servers import Servers
from bench.tables import percentile, table

SMALL, BIG = 1_000, 100_000
CHANGES = 10
PULLS = 300
WARM_UP = 5

_WHAT = ("pull of 10 changes", "pull of nothing new", "upload of the 10")


def run(console: Console, *, quick: bool) -> None:
    uvloop.run(_measure(console, quick=quick))


async def _measure(console: Console, *, quick: bool) -> None:
    sizes, pulls = ((SMALL, BIG // 10), PULLS // 10) if quick else ((SMALL, BIG), PULLS)
    async with servers.running() as running:
        accounts = [await _account(console, running, size) for size in sizes]
        for number in range(WARM_UP + pulls):
            # In turn, and each as often first as second.
            for account in accounts if number % 2 else reversed(accounts):
                await account.once(measured=number >= WARM_UP)
        for account in accounts:
            account.close()
    shown = table(
        f"One user's pulls, ms (median of {pulls}, p90 in brackets)",
        "what", *(f"{size:,} workouts" for size in sizes), "ratio",
    )  # fmt: skip
    for what in _WHAT:
        taken_ms = [account.taken_ms[what] for account in accounts]
        shown.add_row(
            what, *(f"{median(samples):.2f} ({percentile(samples, 90):.2f})" for samples in taken_ms),
            f"{median(taken_ms[1]) / median(taken_ms[0]):.2f}",
        )  # fmt: skip
    console.print(shown)


class _Account:
    """One device edits, another pulls."""

    def __init__(self, writer: Device, reader: Device, names: Sequence[str], dice: random.Random) -> None:
        self.taken_ms: dict[str, list[float]] = {what: [] for what in _WHAT}
        self._writer = writer
        self._reader = reader
        self._names = names
        self._dice = dice

    async def once(self, *, measured: bool) -> None:
        edited = self._dice.sample(self._names, CHANGES)
        changes = self._writer.encoded([(name, workload.update(self._dice)) for name in edited])
        times = [time.perf_counter()]
        uploaded = await self._writer.round_trip(changes)
        times.append(time.perf_counter())
        pulled = await self._reader.round_trip()
        times.append(time.perf_counter())
        nothing = await self._reader.round_trip()
        times.append(time.perf_counter())
        uploaded.all_applied(CHANGES)
        if {document.id for document in pulled.documents} != set(edited) or pulled.more or nothing.documents:
            raise AssertionError(f"{len(pulled.documents)} documents, then {len(nothing.documents)}")
        if measured:
            uploading, pulling, polling = (1_000 * (end - begin) for begin, end in pairwise(times))
            for what, taken_ms in zip(_WHAT, (pulling, polling, uploading), strict=True):
                self.taken_ms[what].append(taken_ms)

    def close(self) -> None:
        self._writer.close()
        self._reader.close()


async def _account(console: Console, running: Servers, size: int) -> _Account:
    """Both accounts are one gateway process's, so that its work is the same."""
    console.print(f"[dim]loading {size:,} workouts …")
    dice = random.Random(workload.SEED + size)
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        first = await signed_up(http, running.gateway.urls[0])
        second = await another_device(http, first)
    writer, reader = Device(first), Device(second)
    names = workload.workout_ids(dice, size)
    for begin in range(0, size, SMALL):
        await load(writer, [(name, workload.workout(dice)) for name in names[begin : begin + SMALL]])
    if (found := await reader.pull()) != size:
        raise AssertionError(f"{found} workouts of {size}")
    writer.cursor = reader.cursor  # an account's cursor is good for each of its devices
    return _Account(writer, reader, names, dice)
