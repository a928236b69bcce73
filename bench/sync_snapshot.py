"""A new phone's first download, beside a raw find of the same records: pages, cursors, registers by stamp and HTTP against none."""

import random
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import httpx
import psutil
import uvloop
from pymongo import AsyncMongoClient
from rich.console import Console

from bench import servers, workload
from bench.device import Device, Form, Installation, load, signed_up
from bench.servers import Servers
from bench.tables import table
from sync.store_mongo import RECORDS

WORKOUTS = 16_000
ROUNDS = 5
FORMS = (Form("json"), Form("msgpack"), Form("json", "zstd"), Form("msgpack", "zstd"))

_RAW = "raw find().to_list()"


def run(console: Console, *, quick: bool) -> None:
    uvloop.run(_measure(console, quick=quick))


async def _measure(console: Console, *, quick: bool) -> None:
    count, rounds = (WORKOUTS // 10, 2) if quick else (WORKOUTS, ROUNDS)
    rates: dict[str, list[float]] = {}
    cpu_us: dict[str, list[tuple[float, ...]]] = {}
    async with servers.running() as running, AsyncMongoClient[dict[str, Any]](running.mongo_url) as client:
        installation = await _loaded(running, count)

        async def raw() -> int:
            return len(await client[servers.DATABASE][RECORDS].find({"collection": "workouts"}).to_list())

        ways: dict[str, Callable[[], Awaitable[int]]] = {_RAW: raw}
        for form in FORMS:
            ways[str(form)] = lambda form=form: _snapshot(installation, form)  # type: ignore[misc]
        # Read once before it counts: connections, plans, and the records in the database's cache.
        for round_number in range(1 + rounds):
            for name, read in ways.items():
                before, began = _cpu_s(running), time.perf_counter()
                if (found := await read()) != count:
                    raise AssertionError(f"{name}: {found} workouts of {count}")
                elapsed_s = time.perf_counter() - began
                if round_number:
                    rates.setdefault(name, []).append(count / elapsed_s)
                    spent_s = zip(_cpu_s(running), before, strict=True)
                    cpu_us.setdefault(name, []).append(tuple((now - then) / count * 1e6 for now, then in spent_s))
    shown = table(
        f"All of {count:,} workouts, one reader (median of {rounds} rounds)",
        "what", "documents/s", "÷ raw", "CPU µs: reader", "gateway", "mongod",
    )  # fmt: skip
    for name, samples in rates.items():
        cpu = (median(spent) for spent in zip(*cpu_us[name], strict=True))
        ratio = median(samples) / median(rates[_RAW])
        shown.add_row(name, f"{median(samples):,.0f}", f"{ratio:.2f}", *(f"{spent:.0f}" for spent in cpu))
    console.print(shown)


def _cpu_s(running: Servers) -> tuple[float, ...]:
    return tuple(
        servers.cpu_s(processes) for processes in ([psutil.Process()], running.gateway.processes, [running.mongod])
    )


async def _snapshot(installation: Installation, form: Form) -> int:
    device = Device(installation, form)
    count = await device.pull(limit=1_000)
    device.close()
    return count


async def _loaded(running: Servers, count: int) -> Installation:
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        installation = await signed_up(http, running.gateway.urls[0])
    dice = random.Random(workload.SEED)
    device = Device(installation)
    await load(device, [(name, workload.told_workout(dice)) for name in workload.workout_ids(dice, count)])
    device.close()
    return installation
