"""Real servers and our own processes for a benchmark, on loopback, in a temporary directory."""

import asyncio
import base64
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil
from pymongo import AsyncMongoClient

from fitness_api import migrate
from fitness_api.embedded import mongod, valkey
from fitness_api.settings import PREFIX

DATABASE = "bench"
_READY_WITHIN_S = 30
_SHOWN_OF_LOG = 2_000  # its last characters, with the error


# Of each server, as a machine of two cores would run them: an event loop is one core's.
PROCESSES = 2


@dataclass(frozen=True)
class Served:
    """One server's processes: users are dealt to the URLs in turn."""

    urls: Sequence[str]
    processes: Sequence[psutil.Process]


@dataclass(frozen=True)
class Servers:
    mongo_url: str
    mongod: psutil.Process
    gateway: Served
    handwritten: Served


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    """User and system seconds that the processes have used."""
    return sum(float(times.user + times.system) for times in (process.cpu_times() for process in processes))


def machine_cpu_s() -> float:
    """Seconds that all processors together have been busy, with everybody's work."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "steal", 0.0))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@asynccontextmanager
async def running(*, with_by_hand: bool = False) -> AsyncIterator[Servers]:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="fitness-bench-")))
        (directory / "mongod").mkdir()
        (directory / "valkey").mkdir()
        mongo_url = await stack.enter_async_context(mongod.running(directory / "mongod"))
        redis_url = await stack.enter_async_context(valkey.running(directory / "valkey"))
        async with AsyncMongoClient[dict[str, object]](mongo_url, w="majority", journal=True) as client:
            await migrate.migrate(client[DATABASE])
        server = next(p for p in psutil.Process().children(recursive=True) if "mongod" in p.name())
        settings = {
            "FITNESS_MONGO_URL": mongo_url,
            "FITNESS_REDIS_URL": redis_url,
            "FITNESS_MONGO_DATABASE": DATABASE,
            "FITNESS_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "FITNESS_PUBLIC_URL": "http://127.0.0.1",
            # What says of itself where it comes from is counted as if it did; the rest is not counted.
            "FITNESS_TRUSTED_PROXIES": "127.0.0.0/8",
            "FITNESS_UNLIMITED_NETWORKS": "127.0.0.0/8",
        }
        gateways, handwritten = [], []
        for number in range(PROCESSES):
            ports = free_port(), free_port()
            gateway = _process(
                directory / f"gateway-{number}.log", "-m", "fitness_api", "serve",
                environment={**settings, "FITNESS_PORT": str(ports[0])},
            )  # fmt: skip
            gateways.append((f"http://127.0.0.1:{ports[0]}", await stack.enter_async_context(gateway)))
            if not with_by_hand:
                continue
            by_hand = _process(
                directory / f"handwritten-{number}.log", "-m", "uvicorn", "bench.handwritten:app", "--port", str(ports[1]),
                "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
                environment={"HANDWRITTEN_MONGO_URL": mongo_url, "HANDWRITTEN_DATABASE": DATABASE},
            )  # fmt: skip
            handwritten.append((f"http://127.0.0.1:{ports[1]}", await stack.enter_async_context(by_hand)))
        for url, process in (*gateways, *handwritten):
            await _answers(url, process, directory)
        yield Servers(mongo_url, server, _served(gateways), _served(handwritten))


def _served(started: Sequence[tuple[str, psutil.Process]]) -> Served:
    return Served([url for url, _ in started], [process for _, process in started])


@asynccontextmanager
async def _process(log: Path, *arguments: str, environment: Mapping[str, str]) -> AsyncIterator[psutil.Process]:
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}  # the tests', maybe
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, env={**inherited, **environment}, stdout=output, stderr=output
        )
        try:
            yield psutil.Process(process.pid)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _answers(url: str, process: psutil.Process, directory: Path) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(_READY_WITHIN_S * 10):
            try:
                await client.get(f"{url}/healthz")
            except httpx.TransportError:
                if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                    break
                await asyncio.sleep(0.1)
            else:
                return
    raise TimeoutError(f"{url} ended, or did not answer within {_READY_WITHIN_S} s\n{_ends_of_logs(directory)}")


def _ends_of_logs(directory: Path) -> str:
    return "\n".join(log.read_text(errors="replace")[-_SHOWN_OF_LOG:] for log in sorted(directory.glob("*.log")))
