"""Uploads of workouts through HTTP, beside raw PyMongo bulk upserts and a hand-written last-writer-wins handler.

All three write the same 16,000 workouts (about 1.5 KB of JSON), in batches of 100, majority-journaled, on one mongod and in
one run; then each updates three fields of all of them. The gateway and the handler run as two processes each, on which the users
are spread.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import psutil
import uvloop
from pymongo import AsyncMongoClient, ReplaceOne
from rich.console import Console

from bench import servers, workload
from bench.device import Connection, Device, signed_up
from bench.servers import Servers
from bench.tables import table
from bench.workload import Fields

WORKOUTS = 16_000
BATCH = 100
USERS = (1, 8)
ROUNDS = 3  # each system in turn, so that a noisy neighbour falls on all; the median of the rounds is shown

_JSON = {"content-type": "application/json"}

Batch = Sequence[tuple[str, Fields]]  # (workout id, fields)
Upload = Callable[[int, Batch], Awaitable[None]]


@dataclass
class Measured:
    documents_per_s: float
    server_cpu_us: float  # of the serving process, for each document
    mongod_cpu_us: float


def run(console: Console, *, quick: bool) -> None:
    count = WORKOUTS // 10 if quick else WORKOUTS
    uvloop.run(_measure(console, count, rounds=1 if quick else ROUNDS))


async def _measure(console: Console, count: int, *, rounds: int) -> None:
    async with servers.running(with_by_hand=True) as running:
        rates = table(
            f"{count:,} workouts in batches of {BATCH}, documents/s (median of {rounds} rounds)",
            "users", "what", "raw", "by hand", "fitness-api", "÷ raw", "÷ by hand",
        )  # fmt: skip
        cpu = table("CPU per document, µs: serving process + mongod", "users", "what", "raw", "by hand", "fitness-api")
        for users in USERS:
            samples: dict[tuple[str, str], list[Measured]] = {}
            for round_number in range(rounds):
                console.print(f"[dim]{users} users, round {round_number + 1} of {rounds} …")
                for system in ("raw", "by hand", "fitness-api"):
                    created, updated = await _one_round(running, system, users, count)
                    samples.setdefault((system, "create"), []).append(created)
                    samples.setdefault((system, "update"), []).append(updated)
            for what in ("create", "update"):
                raw, by_hand, ours = (_median(samples[system, what]) for system in ("raw", "by hand", "fitness-api"))
                rates.add_row(
                    str(users), what, *(f"{m.documents_per_s:,.0f}" for m in (raw, by_hand, ours)),
                    f"{ours.documents_per_s / raw.documents_per_s:.2f}",
                    f"{ours.documents_per_s / by_hand.documents_per_s:.2f}",
                )  # fmt: skip
                cpu.add_row(
                    str(users), what, *(f"{m.server_cpu_us:.0f} + {m.mongod_cpu_us:.0f}" for m in (raw, by_hand, ours))
                )
        console.print(rates)
        console.print(cpu)
        resident_mb = max(process.memory_info().rss for process in running.gateway.processes) / 1e6
        console.print(f"Gateway resident after all of it: {resident_mb:.0f} MB")


def _median(samples: list[Measured]) -> Measured:
    return sorted(samples, key=lambda sample: sample.documents_per_s)[len(samples) // 2]


async def _one_round(running: Servers, system: str, users: int, count: int) -> tuple[Measured, Measured]:
    dice = random.Random(workload.SEED)
    ids = [workload.workout_ids(dice, count // users) for _ in range(users)]
    created = [[(name, workload.workout(dice)) for name in mine] for mine in ids]
    updated = [[(name, workload.update(dice)) for name in mine] for mine in ids]
    match system:
        case "raw":
            return await _raw(running, created, updated)
        case "by hand":
            return await _by_hand(running, created, updated)
        case _:
            return await _ours(running, created, updated)


async def _timed(
    running: Servers,
    processes: Sequence[psutil.Process],
    users: int,
    send: Callable[[int], Awaitable[None]],
    count: int,
) -> Measured:
    serving, database = servers.cpu_s(processes), servers.cpu_s([running.mongod])
    started = time.perf_counter()
    await asyncio.gather(*(send(user) for user in range(users)))
    elapsed_s = time.perf_counter() - started
    return Measured(
        count / elapsed_s,
        (servers.cpu_s(processes) - serving) / count * 1e6,
        (servers.cpu_s([running.mongod]) - database) / count * 1e6,
    )


async def _raw(running: Servers, created: list[Any], updated: list[Any]) -> tuple[Measured, Measured]:
    """Whole documents replaced by id: no merge, no sequence, no request."""
    me = [psutil.Process()]
    count = sum(map(len, created))
    async with AsyncMongoClient[dict[str, Any]](running.mongo_url, w="majority", journal=True) as client:
        collection = client[servers.DATABASE]["raw"]
        await collection.drop()
        await collection.create_index([("user_id", 1), ("seq", 1)])

        def record(user: int, name: str, fields: Fields, seq: int) -> dict[str, Any]:
            return {"_id": f"{user}/workouts/{name}", "user_id": str(user), "seq": seq, "value": fields}

        async def send(work: list[list[ReplaceOne[dict[str, Any]]]]) -> None:
            for batch in work:
                await collection.bulk_write(batch, ordered=False)

        measured = []
        for step in range(2):
            work = []
            for user, mine in enumerate(created):
                records = [
                    record(user, name, {**fields, **(updated[user][n][1] if step else {})}, n + step * count)
                    for n, (name, fields) in enumerate(mine)
                ]
                replaces = [ReplaceOne({"_id": one["_id"]}, one, upsert=True) for one in records]
                work.append([replaces[n : n + BATCH] for n in range(0, len(replaces), BATCH)])
            measured.append(
                await _timed(running, me, len(created), lambda user, work=work: send(work[user]), count)  # type: ignore[misc]
            )
        await collection.drop()
    return measured[0], measured[1]


async def _by_hand(running: Servers, created: list[Any], updated: list[Any]) -> tuple[Measured, Measured]:
    urls = running.handwritten.urls
    connections = [Connection(urls[user % servers.PROCESSES], _JSON) for user in range(len(created))]
    async with AsyncMongoClient[dict[str, Any]](running.mongo_url) as client:
        await client[servers.DATABASE]["handwritten"].drop()
        measured = []
        for step, work in enumerate((created, updated)):
            stamp = f"{time.time_ns() // 1_000_000 + step:016x}"
            bodies = [
                [
                    msgspec.json.encode(
                        {"changes": [{"id": f"{user}/{name}", "stamp": stamp, "set": fields} for name, fields in batch]}
                    )
                    for batch in _batches(mine)
                ]
                for user, mine in enumerate(work)
            ]

            async def send(user: int, bodies: list[list[bytes]] = bodies) -> None:
                for body in bodies[user]:
                    await connections[user].post("/upload", body)

            measured.append(await _timed(running, running.handwritten.processes, len(work), send, sum(map(len, work))))
        await client[servers.DATABASE]["handwritten"].drop()
    for connection in connections:
        connection.close()
    return measured[0], measured[1]


async def _ours(running: Servers, created: list[Any], updated: list[Any]) -> tuple[Measured, Measured]:
    async with httpx.AsyncClient(timeout=120, trust_env=False) as http:
        urls = running.gateway.urls
        devices = [Device(await signed_up(http, urls[n % servers.PROCESSES])) for n in range(len(created))]
    measured = []
    for work in (created, updated):
        # All but the cursor is written beforehand: what is measured is the server, as far as one machine allows.
        encoded = [
            [device.encoded(batch) for batch in _batches(mine)] for device, mine in zip(devices, work, strict=True)
        ]

        async def send(index: int, encoded: list[list[bytes]] = encoded) -> None:
            for batch in encoded[index]:
                answer = (await devices[index].round_trip(batch)).all_applied(BATCH)
                if answer.documents:
                    raise AssertionError(answer.documents[:3])

        measured.append(await _timed(running, running.gateway.processes, len(work), send, sum(map(len, work))))
    for device in devices:
        device.close()
    return measured[0], measured[1]


def _batches(mine: Batch) -> list[Batch]:
    return [mine[n : n + BATCH] for n in range(0, len(mine), BATCH)]
