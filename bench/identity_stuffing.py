"""A flood of wrong passwords, each from another network and at another account, and somebody who logs in meanwhile."""

import asyncio
import itertools
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field

import httpx
import uvloop
from rich.console import Console

from bench import servers
from bench.tables import percentile, table

ATTEMPTS = 10_000
AT_ONCE = 256
# A known device has ten tries in ten minutes.
PHONES, TRIES = 60, 10
ALONE = 20
PAUSE_S = 0.1
SAMPLE_EVERY_S = 0.05
PASSWORD = "a long enough passphrase"  # noqa: S105
MIB = 2**20


@dataclass
class Seen:
    statuses: Counter[int] = field(default_factory=Counter)
    waits_ms: list[float] = field(default_factory=list)


def run(console: Console, *, quick: bool) -> None:
    uvloop.run(_measure(console, quick=quick))


async def _measure(console: Console, *, quick: bool) -> None:
    attempts = ATTEMPTS // 10 if quick else ATTEMPTS
    async with servers.running() as running:
        url, process = running.gateway.urls[0], running.gateway.processes[0]
        limits = httpx.Limits(max_connections=2 * AT_ONCE)
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60, limits=limits) as http:
            account = {"email": f"{uuid.uuid4()}@example.com", "password": PASSWORD}
            (await http.post("/v1/auth/register", json=account)).raise_for_status()
            phones = []
            for _ in range(PHONES):
                http.cookies.clear()
                answer = (await http.post("/v1/auth/login", json=account)).raise_for_status()
                phones += [answer.headers["set-cookie"].partition(";")[0]] * TRIES
            http.cookies.clear()
            alone = await _own(http, account, phones[:ALONE], asyncio.Event())
            before_bytes = peak_bytes = process.memory_info().rss
            flood_ended = asyncio.Event()
            owner = asyncio.create_task(_own(http, account, phones[ALONE:], flood_ended))
            begun_s = time.perf_counter()
            flood = asyncio.create_task(_flood(http, attempts))
            while not flood.done():
                peak_bytes = max(peak_bytes, process.memory_info().rss)
                await asyncio.sleep(SAMPLE_EVERY_S)
            took_s = time.perf_counter() - begun_s
            flood_ended.set()
            strangers, meanwhile = await flood, await owner
    shown = table(
        f"{attempts:,} wrong passwords in {took_s:.0f} s, {AT_ONCE} at once; resident memory {before_bytes / MIB:.0f} MiB, "
        f"at most {peak_bytes / MIB:.0f} MiB",
        "what", "requests", "200", "401", "429", "other", "wait ms: p50", "p99",
    )  # fmt: skip
    rows = {"strangers": strangers, "a known device, alone": alone, "a known device, meanwhile": meanwhile}
    for name, seen in rows.items():
        counted = seen.statuses
        others = counted.total() - counted[200] - counted[401] - counted[429]
        shown.add_row(
            name, f"{counted.total():,}", f"{counted[200]:,}", f"{counted[401]:,}", f"{counted[429]:,}", f"{others}",
            f"{percentile(seen.waits_ms, 50):.0f}", f"{percentile(seen.waits_ms, 99):.0f}",
        )  # fmt: skip
    console.print(shown)


async def _flood(http: httpx.AsyncClient, attempts: int) -> Seen:
    seen, numbers = Seen(), itertools.count()

    async def attack() -> None:
        while (number := next(numbers)) < attempts:
            wrong = {"email": f"{number}@example.com", "password": "wrong horse"}
            address = f"198.{18 + number // 65536}.{number // 256 % 256}.{number % 256}"
            await _login(http, wrong, {"X-Forwarded-For": address}, seen)

    await asyncio.gather(*(attack() for _ in range(AT_ONCE)))
    return seen


async def _own(http: httpx.AsyncClient, account: dict[str, str], phones: list[str], end: asyncio.Event) -> Seen:
    """Log in again and again, from phones that did so before."""
    seen = Seen()
    for cookie in phones:
        if end.is_set():
            break
        await _login(http, account, {"X-Forwarded-For": "203.0.113.1", "Cookie": cookie}, seen)
        await asyncio.sleep(PAUSE_S)
    return seen


async def _login(http: httpx.AsyncClient, account: dict[str, str], headers: dict[str, str], seen: Seen) -> None:
    begun_s = time.perf_counter()
    answer = await http.post("/v1/auth/login", json=account, headers=headers)
    seen.waits_ms.append((time.perf_counter() - begun_s) * 1_000)
    seen.statuses[answer.status_code] += 1
