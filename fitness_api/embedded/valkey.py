"""Valkey (or Redis) on one machine: append-only file, nothing evicted, on loopback.

Source: https://valkey.io/topics/persistence/
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from fitness_api.embedded.binaries import find_valkey
from fitness_api.embedded.data_directory import LOOPBACK, free_port
from fitness_api.embedded.supervisor import Part, Supervisor

NAME = "valkey"
DEFAULT_PORT = 26117
READY_WITHIN_S = 30
STOP_WITHIN_S = 10
# Beyond it writes are refused rather than keys thrown away: the streams in it hold what was acknowledged.
LEAST_MEMORY_MIB, MOST_MEMORY_MIB, SHARE_OF_MEMORY = 256, 1024, 1 / 8


def memory_mib(memory_bytes: int) -> int:
    return min(MOST_MEMORY_MIB, max(LEAST_MEMORY_MIB, round(memory_bytes / 2**20 * SHARE_OF_MEMORY)))


def url(port: int) -> str:
    return f"redis://{LOOPBACK}:{port}/0"


def argv(program: Path, *, data: Path, port: int, memory_bytes: int) -> list[str | Path]:
    return [
        program,
        "--port",
        str(port),
        "--bind",
        LOOPBACK,
        "--dir",
        data,
        "--appendonly",
        "yes",
        # A write reaches the kernel before its answer, so it survives any kill; a power cut may take the last second.
        "--appendfsync",
        "everysec",
        # The append-only file has it all.
        "--save",
        "",
        "--maxmemory",
        f"{memory_mib(memory_bytes)}mb",
        "--maxmemory-policy",
        "noeviction",
        "--daemonize",
        "no",
    ]


def part(program: Path, *, data: Path, port: int, log: Path, memory_bytes: int) -> Part:
    return Part(
        name=NAME,
        argv=argv(program, data=data, port=port, memory_bytes=memory_bytes),
        environ={"PATH": os.defpath},
        log=log,
        ready=lambda: ready(port),
        ready_within_s=READY_WITHIN_S,
        stop_within_s=STOP_WITHIN_S,
    )


async def ready(port: int) -> None:
    """Returns once it answers PING, which it refuses while it loads its file. Runs until cancelled."""
    async with Redis(host=LOOPBACK, port=port, socket_timeout=5, socket_connect_timeout=1) as client:
        while True:
            try:
                await client.ping()
                return
            except RedisError:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[str]:
    """A server of one's own on a free port, stopped at the end; yields its URL."""
    port = free_port()
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    program = find_valkey(os.environ.get("PATH", os.defpath))
    async with Supervisor(report=lambda _: None) as supervisor:
        await supervisor.start(part(program, data=data, port=port, log=folder / "valkey.log", memory_bytes=2**31))
        yield url(port)
