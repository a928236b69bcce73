"""`GET /v1/me` of a known caller on a kept connection, beside a bare Starlette route that gives the same bytes.

One process each, which take turns. Client and server share the machine, so that the servers are compared by the processor time
that they take for a request; the rates are there to check it by.
"""

import asyncio
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

import httpx
import psutil
import uvloop
from rich.console import Console

from bench import servers
from bench.tables import table

CONNECTIONS = 16
FOR_S = 5.0
ROUNDS = 3
READY_WITHIN_S = 30


@dataclass(frozen=True)
class Measured:
    rate: float
    cpu_us: float


def run(console: Console, *, quick: bool) -> None:
    uvloop.run(_measure(console, quick=quick))


async def _measure(console: Console, *, quick: bool) -> None:
    rounds, for_s = (1, FOR_S / 5) if quick else (ROUNDS, FOR_S)
    samples: dict[str, list[Measured]] = {"bare Starlette": [], "fitness-api": []}
    async with servers.running() as running:
        gateway = running.gateway.urls[0], running.gateway.processes[0]
        async with httpx.AsyncClient(trust_env=False) as http:
            account = {"email": f"{uuid.uuid4()}@example.com", "password": "a long enough passphrase"}
            pair = (await http.post(f"{gateway[0]}/v1/auth/register", json=account)).raise_for_status().json()
            authorization = f"Bearer {pair['access_token']}"
            me = await http.get(f"{gateway[0]}/v1/me", headers={"authorization": authorization})
        async with _bare(me.raise_for_status().text) as bare:
            for _ in range(rounds):
                for name, (url, process) in {"bare Starlette": bare, "fitness-api": gateway}.items():
                    samples[name].append(await _asked(url, process, authorization, for_s, me.content))
    shown = table(
        f"GET /v1/me, {CONNECTIONS} connections, {len(me.content)} bytes (median of {rounds} rounds)",
        "what", "requests/s", "CPU µs a request", "bare ÷ this, by CPU",
    )  # fmt: skip
    limit = median(one.cpu_us for one in samples["bare Starlette"])
    for name, measured in samples.items():
        cpu_us = median(one.cpu_us for one in measured)
        rate = median(one.rate for one in measured)
        shown.add_row(name, f"{rate:,.0f}", f"{cpu_us:.0f}", f"{limit / cpu_us:.2f}")
    console.print(shown)


async def _asked(url: str, process: psutil.Process, authorization: str, for_s: float, wanted: bytes) -> Measured:
    host, _, port = url.removeprefix("http://").partition(":")
    request = f"GET /v1/me HTTP/1.1\r\nhost: {host}\r\nauthorization: {authorization}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    until_s = loop.time() + for_s
    answers = 0

    async def ask() -> None:
        nonlocal answers
        reader, writer = await asyncio.open_connection(host, int(port))
        while loop.time() < until_s:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            # Both answer uncompressed, with the length that was seen before.
            body = await reader.readexactly(len(wanted))
            if not head.startswith(b"HTTP/1.1 200") or body != wanted:
                raise AssertionError(f"{head!r} {body!r}")
            answers += 1
        writer.close()

    cpu_s, begun_s = servers.cpu_s([process]), time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(CONNECTIONS)))
    elapsed_s, used_s = time.perf_counter() - begun_s, servers.cpu_s([process]) - cpu_s
    return Measured(answers / elapsed_s, used_s / answers * 1e6)


@asynccontextmanager
async def _bare(body: str) -> AsyncIterator[tuple[str, psutil.Process]]:
    port = servers.free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "uvicorn", "bench.bare:app", "--port", str(port),
        "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
        env={**os.environ, "BARE_BODY": body},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(READY_WITHIN_S):
            while True:
                try:
                    await http.get(f"{url}/v1/me")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        await process.wait()
