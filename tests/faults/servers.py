"""Servers of a test's own, which it may kill, pause, and start again on the same data and the same port.

Nothing is left of them: their processes end with the block that they were started in, and with the test process however it ends;
what they stored is deleted, their logs stay with the test's other files.
"""

import asyncio
import os
import shutil
import signal
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from fitness_api import migrate, up
from fitness_api.embedded import mongod, process, valkey
from fitness_api.embedded.binaries import find_mongod, find_valkey
from fitness_api.embedded.data_directory import LOOPBACK, free_port
from fitness_api.embedded.supervisor import Part
from fitness_api.settings import from_environment
from tests.fitness_api.test_cli import environment

DATABASE = "faults"
MASTER_KEY = bytes(32)

# Production waits 10 s before it elects another primary. A machine that runs other tests stalls for less than this.
ELECTION_TIMEOUT_MS = 2_000
HEARTBEAT_MS = 200
# One that steps down would have another elected at once; without that, devices meet a set without a primary.
NO_HANDOFF = ("--setParameter", "enableElectionHandoff=false")
# How long a primary that was asked to step down stays out of elections; long enough for another to be elected.
STEPPED_DOWN_S = 4


class Server:
    def __init__(self, part: Part) -> None:
        self.part = part
        self._child: process.Child | None = None

    async def start(self) -> None:
        """Returns when it serves. Raises TimeoutError."""
        part = self.part
        self._child = await process.start(part.name, part.argv, log=part.log, environ=part.environ, folder=part.folder)
        async with asyncio.timeout(part.ready_within_s):
            await part.ready()

    async def kill(self) -> None:
        """As the kernel does when memory runs out: no last word, nothing flushed."""
        if self._child is not None and self._child.running:
            self.send(signal.SIGKILL)
            await self._child.wait()

    def send(self, number: signal.Signals) -> None:
        assert self._child is not None
        assert self._child.running, f"{self.part.name} ended by itself: {self._child.last_lines(15)}"
        os.kill(self._child.pid, number)


@asynccontextmanager
async def started(part: Part) -> AsyncIterator[Server]:
    server = Server(part)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()


@contextmanager
def data_folder(folder: Path, name: str) -> Iterator[Path]:
    """A gigabyte for a few servers, which pytest would keep for three runs."""
    data = folder / name
    data.mkdir(parents=True)
    try:
        yield data
    finally:
        shutil.rmtree(data, ignore_errors=True)


@asynccontextmanager
async def one_mongod(folder: Path) -> AsyncIterator[tuple[Server, str]]:
    """A replica set of one node, with the options of `fitness-api up`; yields it and its URL."""
    port = free_port()
    with data_folder(folder, "mongod") as data:
        async with started(_mongod_part(folder, data, port)) as server:
            yield server, mongod.url(port)


def _mongod_part(folder: Path, data: Path, port: int) -> Part:
    program = find_mongod(os.environ.get("PATH", os.defpath))
    return mongod.part(program, data=data, port=port, log=folder / f"mongod-{port}.log", memory_bytes=2**31)


@asynccontextmanager
async def one_valkey(folder: Path) -> AsyncIterator[tuple[Server, str]]:
    port = free_port()
    program = find_valkey(os.environ.get("PATH", os.defpath))
    with data_folder(folder, "valkey") as data:
        part = valkey.part(program, data=data, port=port, log=folder / "valkey.log", memory_bytes=2**31)
        async with started(part) as server:
            yield server, valkey.url(port)


class Gateway(Server):
    """`fitness-api serve` in a process of its own."""

    def __init__(self, folder: Path, mongo_url: str, redis_url: str) -> None:
        port = free_port()
        settings = environment(
            {
                "mongo_url": mongo_url,
                "redis_url": redis_url,
                "mongo_database": DATABASE,
                "master_key": b64encode(MASTER_KEY).decode(),
                # One and the same for all: it is in the tokens, and a device goes from one gateway to the other.
                "public_url": "http://api.test",
                "password_hashers": "1",
                "unlimited_networks": "127.0.0.0/8",
                "port": str(port),
            }
        )
        super().__init__(up.gateway(from_environment(settings), settings, log=folder / f"gateway-{port}.log"))
        self.port = port
        self.url = f"http://{LOOPBACK}:{port}"


@asynccontextmanager
async def gateways(folder: Path, count: int, mongo_url: str, redis_url: str) -> AsyncIterator[list[Gateway]]:
    """On a database that is migrated first."""
    async with database_at(mongo_url) as database:
        await migrate.migrate(database)
    async with AsyncExitStack() as stack:
        made = [Gateway(folder, mongo_url, redis_url) for _ in range(count)]
        for gateway in made:
            stack.push_async_callback(gateway.kill)
        await asyncio.gather(*(gateway.start() for gateway in made))
        yield made


@asynccontextmanager
async def database_at(mongo_url: str) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    """Of servers that are well: PyMongo leaks the socket of a connection that is given up while it is made."""
    async with AsyncMongoClient[dict[str, Any]](
        mongo_url, w="majority", readConcernLevel="majority", serverMonitoringMode="poll", tz_aware=True
    ) as client:
        yield client[DATABASE]


class ReplicaSet:
    """Three mongods, any of which may be primary."""

    def __init__(self, members: dict[int, Server]) -> None:
        self.members = members  # by port
        hosts = ",".join(f"{LOOPBACK}:{port}" for port in members)
        self.url = f"mongodb://{hosts}/?replicaSet={mongod.REPLICA_SET}"

    async def initiate(self) -> None:
        config = {
            "_id": mongod.REPLICA_SET,
            "members": [{"_id": number, "host": f"{LOOPBACK}:{port}"} for number, port in enumerate(self.members)],
            "settings": {"electionTimeoutMillis": ELECTION_TIMEOUT_MS, "heartbeatIntervalMillis": HEARTBEAT_MS},
        }
        await _ask(next(iter(self.members)), {"replSetInitiate": config})
        await self.primary()
        for port in self.members:
            await until_member(port)

    async def primary(self, *, other_than: int | None = None) -> int:
        """Return its port, once one was elected that has a majority behind it."""
        while True:
            for port in self.members:
                if port != other_than and (await _hello(port)).get("isWritablePrimary"):
                    return port
            await asyncio.sleep(0.05)

    async def step_down(self) -> None:
        """Returns when another is primary."""
        old = await self.primary()
        await _ask(old, {"replSetStepDown": STEPPED_DOWN_S, "secondaryCatchUpPeriodSecs": 2})
        await self.primary(other_than=old)


@asynccontextmanager
async def replica_set(folder: Path) -> AsyncIterator[ReplicaSet]:
    async with AsyncExitStack() as stack:
        members = {}
        for _ in range(3):
            port = free_port()
            data = stack.enter_context(data_folder(folder, f"mongod-{port}"))
            # Ready is one that answers: whether it is a member, and which, is the set's business.
            part = _mongod_part(folder, data, port)
            part = replace(part, argv=[*part.argv, *NO_HANDOFF], ready=partial(_answers, port))
            members[port] = await stack.enter_async_context(started(part))
        mongods = ReplicaSet(members)
        await mongods.initiate()
        yield mongods


async def _ask(port: int, command: dict[str, Any]) -> dict[str, Any]:
    """Ask one member, whatever its state. Of the driver without asyncio, which closes what it opened of a dead one, too."""

    def ask() -> dict[str, Any]:
        url = f"mongodb://{LOOPBACK}:{port}/?directConnection=true"
        with MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=500, socketTimeoutMS=5_000) as client:
            return client.admin.command(command)

    return await asyncio.to_thread(ask)


async def _hello(port: int) -> dict[str, Any]:
    """Empty if it does not answer."""
    try:
        return await _ask(port, {"hello": 1})
    except PyMongoError:
        return {}


async def _answers(port: int) -> None:
    while not await _hello(port):
        await asyncio.sleep(0.05)


async def until_member(port: int) -> None:
    """Returns when it is primary or secondary, and so has caught up."""
    while not {"isWritablePrimary", "secondary"} & {
        name for name, value in (await _hello(port)).items() if value is True
    }:
        await asyncio.sleep(0.05)
