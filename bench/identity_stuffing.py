"""A flood of wrong passwords, each from another network and at another account, and somebody who logs in meanwhile."""

import asyncio
import itertools
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import uvloop
from msgspec import json
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
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as http:
            account = {"email": f"{uuid.uuid4()}@example.com", "password": PASSWORD}
            (await http.post("/v1/auth/register", json=account)).raise_for_status()
            phones = []
            for _ in range(PHONES):
                http.cookies.clear()
                answer = (await http.post("/v1/auth/login", json=account)).raise_for_status()
                phones += [answer.headers["set-cookie"].partition(";")[0]] * TRIES
        alone = await _own(url, account, phones[:ALONE], asyncio.Event())
        before_bytes = peak_bytes = process.memory_info().rss
        flood_ended = asyncio.Event()
        owner = asyncio.create_task(_own(url, account, phones[ALONE:], flood_ended))
        begun_s = time.perf_counter()
        flood = asyncio.create_task(_flood(url, attempts))
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


async def _flood(url: str, attempts: int) -> Seen:
    seen, numbers = Seen(), itertools.count()

    async def attack() -> None:
        async with _connected(url) as connection:
            while (number := next(numbers)) < attempts:
                wrong = {"email": f"{number}@example.com", "password": "wrong horse"}
                address = f"198.{18 + number // 65536}.{number // 256 % 256}.{number % 256}"
                await _login(connection, wrong, f"x-forwarded-for: {address}\r\n", seen)

    await asyncio.gather(*(attack() for _ in range(AT_ONCE)))
    return seen


async def _own(url: str, account: dict[str, str], phones: list[str], end: asyncio.Event) -> Seen:
    """Log in again and again, from phones that did so before."""
    seen = Seen()
    async with _connected(url) as connection:
        for cookie in phones:
            if end.is_set():
                break
            await _login(connection, account, f"x-forwarded-for: 203.0.113.1\r\ncookie: {cookie}\r\n", seen)
            await asyncio.sleep(PAUSE_S)
    return seen


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Connection]:
    """Bare: a client library's pool of hundreds of connections takes more time than the gateway."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def _login(connection: Connection, account: dict[str, str], headers: str, seen: Seen) -> None:
    reader, writer = connection
    body = json.encode(account)
    head = (
        f"POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    )
    begun_s = time.perf_counter()
    writer.write(f"{head}{headers}\r\n".encode() + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, _, length = answer.partition(b"content-length: ")
    await reader.readexactly(int(length.partition(b"\r\n")[0]))
    seen.waits_ms.append((time.perf_counter() - begun_s) * 1_000)
    seen.statuses[int(answer.split(b" ", 2)[1])] += 1
