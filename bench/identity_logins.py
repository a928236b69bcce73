"""Logins beside what bounds them: the same hash, checked by the same number of threads. And what the event loop feels of it."""

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

import uvloop
from argon2 import PasswordHasher
from argon2.low_level import Type
from rich.console import Console

from bench import inside
from bench.tables import percentile, table
from fitness_api.identity import passwords
from fitness_api.identity.audit import Origin
from fitness_api.resources import Resources

HASHERS = 2
AT_ONCE = 16
LOGINS = 200
ROUNDS = 3
IDLE_FOR_S = 3.0
TICK_S = 0.001
PASSWORD = "a long enough passphrase"  # noqa: S105


@dataclass(frozen=True)
class Measured:
    rate: float
    lag_ms: Sequence[float]


def run(console: Console, *, quick: bool) -> None:
    uvloop.run(_measure(console, quick=quick))


async def _measure(console: Console, *, quick: bool) -> None:
    rounds, count = (1, LOGINS // 10) if quick else (ROUNDS, LOGINS)
    samples: dict[str, list[Measured]] = {"nothing": [], "argon2 in threads": [], "logins": []}
    async with inside.opened(password_hashers=HASHERS) as resources:
        emails = [f"{uuid.uuid4()}@example.com" for _ in range(AT_ONCE)]
        for email in emails:
            await resources["logins"].register(email=email, password=PASSWORD, origin=Origin())
        for _ in range(rounds):
            async with _lag() as lag_ms:
                await asyncio.sleep(IDLE_FOR_S)
            samples["nothing"].append(Measured(0, lag_ms))
            samples["argon2 in threads"].append(await _argon2(count))
            samples["logins"].append(await _logins(resources, emails, count))
    limit = median(measured.rate for measured in samples["argon2 in threads"])
    shown = table(
        f"{AT_ONCE} at once, {HASHERS} hashers (median of {rounds} rounds)",
        "what", "a second", "÷ argon2", "loop's lag ms: p50", "p99", "longest",
    )  # fmt: skip
    for name, measured in samples.items():
        rate = median(one.rate for one in measured)
        lags = [lag for one in measured for lag in one.lag_ms]
        shown.add_row(
            name, f"{rate:.1f}" if rate else "", f"{rate / limit:.2f}" if rate else "",
            f"{percentile(lags, 50):.2f}", f"{percentile(lags, 99):.2f}", f"{max(lags):.1f}",
        )  # fmt: skip
    console.print(shown)


@asynccontextmanager
async def _lag() -> AsyncIterator[list[float]]:
    """How much later than asked a timer of this loop comes, in ms, again and again."""
    lags: list[float] = []

    async def sample() -> None:
        while True:
            at = time.perf_counter()
            await asyncio.sleep(TICK_S)
            lags.append((time.perf_counter() - at - TICK_S) * 1_000)

    task = asyncio.create_task(sample())
    try:
        yield lags
    finally:
        task.cancel()


async def _argon2(count: int) -> Measured:
    hasher = PasswordHasher(time_cost=1, memory_cost=passwords.MEMORY_KIB, parallelism=1, type=Type.ID)
    known = hasher.hash(PASSWORD)
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(HASHERS) as threads:
        async with _lag() as lag_ms:
            begun_s = time.perf_counter()
            await asyncio.gather(*(loop.run_in_executor(threads, hasher.verify, known, PASSWORD) for _ in range(count)))
            return Measured(count / (time.perf_counter() - begun_s), lag_ms)


async def _logins(resources: Resources, emails: Sequence[str], count: int) -> Measured:
    turns = itertools.count()

    async def one_after_the_other(email: str) -> None:
        while next(turns) < count:
            await resources["logins"].login(email=email, password=PASSWORD, origin=Origin())

    async with _lag() as lag_ms:
        begun_s = time.perf_counter()
        await asyncio.gather(*map(one_after_the_other, emails))
        return Measured(count / (time.perf_counter() - begun_s), lag_ms)
