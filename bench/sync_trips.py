"""Many users' small round trips at once, beside single upserts: what one machine gives a fleet of phones.

A round trip of ten changes is ten documents read, merged and written durably with their sequence; an upsert is one, without a
request, a login or a merge.
"""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import httpx
import psutil
import uvloop
from rich.console import Console

from bench import servers, workload
from bench.device import Device, Installation, signed_up
from bench.servers import Servers
from bench.tables import percentile, table

USERS = 64
TRIPS = 40  # of each user, a round
CHANGES = 10  # what a phone has gathered during a workout
ROUNDS = 3
UPSERT_PROCESSES = (1, 2)
UPSERTS_FOR_S = 5.0


@dataclass(frozen=True)
class Measured:
    taken_s: Sequence[float]
    elapsed_s: float
    client_cpu_s: float
    gateway_cpu_s: float
    mongod_cpu_s: float
    machine_cpu_s: float

    @property
    def rate(self) -> float:
        return len(self.taken_s) / self.elapsed_s


def run(console: Console, *, quick: bool) -> None:
    uvloop.run(_measure(console, quick=quick))


async def _measure(console: Console, *, quick: bool) -> None:
    rounds, trips, upserts_for_s = (1, TRIPS // 8, UPSERTS_FOR_S / 5) if quick else (ROUNDS, TRIPS, UPSERTS_FOR_S)
    samples: dict[str, list[Measured]] = {}
    async with servers.running() as running:
        phones = await _phones(running)
        await asyncio.gather(*(phone.send(phone.prepared(1)) for phone in phones))
        for round_number in range(rounds):
            console.print(f"[dim]round {round_number + 1} of {rounds} …")
            for processes in UPSERT_PROCESSES:
                name = f"upserts, {processes} process{'es' if processes > 1 else ''}"
                samples.setdefault(name, []).append(await _upserts(running, processes, upserts_for_s))
            samples.setdefault("round trips", []).append(await _round_trips(running, phones, trips))
        await phones[0].check()
        for phone in phones:
            phone.device.close()
    limits = {processes: _rate(samples[name]) for processes, name in zip(UPSERT_PROCESSES, samples, strict=False)}
    shown = table(
        f"{USERS} users at once, {CHANGES} changes a round trip (median of {rounds} rounds)",
        "what", "requests/s", "p50 ms", "p99 ms", *(f"÷ upserts, {processes}" for processes in limits),
    )  # fmt: skip
    cpu = table("CPU per request, µs, and cores busy", "what", "client", "gateway", "mongod", "these", "the machine")
    for name, rounds_of in samples.items():
        taken_ms = [taken_s * 1_000 for measured in rounds_of for taken_s in measured.taken_s]
        shown.add_row(
            name, f"{_rate(rounds_of):,.0f}", f"{percentile(taken_ms, 50):.1f}", f"{percentile(taken_ms, 99):.1f}",
            *(f"{_rate(rounds_of) / limit:.2f}" for limit in limits.values()),
        )  # fmt: skip
        cpu.add_row(name, *_cpu(rounds_of))
    console.print(shown)
    console.print(cpu)


def _rate(rounds_of: Sequence[Measured]) -> float:
    return median(measured.rate for measured in rounds_of)


def _cpu(rounds_of: Sequence[Measured]) -> list[str]:
    requests = sum(len(measured.taken_s) for measured in rounds_of)
    elapsed_s = sum(measured.elapsed_s for measured in rounds_of)
    parts_s = [
        sum(measured.client_cpu_s for measured in rounds_of),
        sum(measured.gateway_cpu_s for measured in rounds_of),
        sum(measured.mongod_cpu_s for measured in rounds_of),
    ]
    cores = (sum(parts_s), sum(measured.machine_cpu_s for measured in rounds_of))
    return [
        *(f"{part_s / requests * 1e6:,.0f}" for part_s in parts_s),
        *(f"{core_s / elapsed_s:.2f}" for core_s in cores),
    ]


class _Phone:
    """Makes five workouts a round trip, and edits five that it made before; in its first it makes all ten."""

    def __init__(self, installation: Installation, dice: random.Random) -> None:
        self.device = Device(installation)
        self.taken_s: list[float] = []
        self._dice = dice
        self._made: list[str] = []

    def prepared(self, trips: int) -> list[bytes]:
        """Encoded beforehand: what is measured is the server, as far as one machine allows."""
        return [self._changes() for _ in range(trips)]

    def _changes(self) -> bytes:
        edited = self._dice.sample(self._made, CHANGES // 2) if self._made else []
        made = workload.workout_ids(self._dice, CHANGES - len(edited))
        self._made += made
        return self.device.encoded(
            [
                *((name, workload.workout(self._dice)) for name in made),
                *((name, workload.update(self._dice)) for name in edited),
            ]
        )

    async def send(self, prepared: Sequence[bytes]) -> None:
        for changes in prepared:
            began = time.perf_counter()
            answer = await self.device.round_trip(changes)
            self.taken_s.append(time.perf_counter() - began)
            answer.all_applied(CHANGES)
            if answer.documents or answer.more:
                raise AssertionError("Nobody else writes to this account.")

    async def check(self) -> None:
        """What was acknowledged is there."""
        self.device.cursor = ""
        if (found := await self.device.pull()) != len(self._made):
            raise AssertionError(f"{found} workouts of {len(self._made)}")


async def _phones(running: Servers) -> list[_Phone]:
    few = asyncio.Semaphore(8)  # of a queue for password hashing that is bounded
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:

        async def one(number: int) -> _Phone:
            async with few:
                installation = await signed_up(http, running.gateway.urls[number % servers.PROCESSES])
            return _Phone(installation, random.Random(workload.SEED + number))

        return await asyncio.gather(*(one(number) for number in range(USERS)))


async def _round_trips(running: Servers, phones: Sequence[_Phone], trips: int) -> Measured:
    prepared = [phone.prepared(trips) for phone in phones]
    for phone in phones:
        phone.taken_s.clear()
    clock = _Clock([psutil.Process()], running)
    await asyncio.gather(*(phone.send(bodies) for phone, bodies in zip(phones, prepared, strict=True)))
    return clock.stopped([taken_s for phone in phones for taken_s in phone.taken_s])


async def _upserts(running: Servers, processes: int, seconds: float) -> Measured:
    """As many tasks as there are users, dealt to the processes."""
    tasks = USERS // processes
    argv = [sys.executable, "-m", "bench.upserts", running.mongo_url, servers.DATABASE, str(tasks), str(seconds)]
    started = [
        await asyncio.create_subprocess_exec(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=2**26)
        for _ in range(processes)
    ]  # fmt: skip
    outputs, inputs = [], []
    for process in started:
        assert process.stdout is not None
        assert process.stdin is not None
        outputs.append(process.stdout)
        inputs.append(process.stdin)
    for output in outputs:
        await output.readline()
    clock = _Clock([psutil.Process(process.pid) for process in started], running)
    for start in inputs:
        start.write(b"\n")
    await asyncio.sleep(seconds)
    measured = clock.stopped([])
    taken_s = [taken for output in outputs for taken in json.loads(await output.readline())]
    for process in started:
        await process.wait()
    return replace(measured, taken_s=taken_s)


class _Clock:
    def __init__(self, client: Sequence[psutil.Process], running: Servers) -> None:
        self._client = client
        self._running = running
        self._began = self._read()

    def _read(self) -> tuple[float, ...]:
        return (
            time.perf_counter(),
            servers.cpu_s(self._client),
            servers.cpu_s(self._running.gateway.processes),
            servers.cpu_s([self._running.mongod]),
            servers.machine_cpu_s(),
        )

    def stopped(self, taken_s: Sequence[float]) -> Measured:
        elapsed_s, client, gateway, mongod, machine = (
            now - then for now, then in zip(self._read(), self._began, strict=True)
        )
        return Measured(taken_s, elapsed_s, client, gateway, mongod, machine)
