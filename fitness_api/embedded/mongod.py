"""MongoDB on one machine: a replica set of one node, journaled, on loopback.

A replica set because transactions, change streams and `w: majority` need one. No login: whoever reaches this
machine's loopback may read the files as well.
Source: https://www.mongodb.com/docs/manual/reference/program/mongod/
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from fitness_api.embedded.binaries import find_mongod
from fitness_api.embedded.data_directory import LOOPBACK, free_port
from fitness_api.embedded.supervisor import Part, Supervisor

NAME = "mongod"
DEFAULT_PORT = 27117
REPLICA_SET = "rs0"
# After a crash the journal is replayed first; a gigabyte of it took under ten seconds.
READY_WITHIN_S = 60
# A clean shutdown writes a checkpoint of at most the cache.
STOP_WITHIN_S = 30
# A round trip's transaction takes milliseconds, and gives up by itself after 8 s.
TRANSACTION_LIFETIME_S = 15
# A laptop runs other things. mongod's own default is half of the memory.
LEAST_CACHE_GIB, MOST_CACHE_GIB, SHARE_OF_MEMORY = 0.25, 1.0, 1 / 8
# mongod's own default is a twentieth of the disk. This holds hours of a busy single machine's writes.
OPLOG_MIB = 1024
# A server error code.
NOT_YET_INITIALISED = 94


def cache_gib(memory_bytes: int) -> float:
    return min(MOST_CACHE_GIB, max(LEAST_CACHE_GIB, round(memory_bytes / 2**30 * SHARE_OF_MEMORY, 2)))


def url(port: int) -> str:
    return f"mongodb://{LOOPBACK}:{port}/?replicaSet={REPLICA_SET}"


def argv(program: Path, *, data: Path, port: int, memory_bytes: int) -> list[str | Path]:
    return [
        program,
        "--dbpath",
        data,
        "--port",
        str(port),
        "--bind_ip",
        LOOPBACK,
        "--replSet",
        REPLICA_SET,
        "--oplogSize",
        str(OPLOG_MIB),
        "--wiredTigerCacheSizeGB",
        str(cache_gib(memory_bytes)),
        # Its socket file in /tmp would be shared with other users' servers.
        "--nounixsocket",
        "--quiet",
        # Diagnostics for the vendor's support: 0.2 GiB that nobody here reads.
        "--setParameter",
        "diagnosticDataCollectionEnabled=false",
        # A gateway that is killed inside a transaction leaves it open, and its account locked, for this long (default 60).
        "--setParameter",
        f"transactionLifetimeLimitSeconds={TRANSACTION_LIFETIME_S}",
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
    """Returns once the node is a writable primary; makes or mends the replica set on the way. Runs until cancelled."""
    address = f"{LOOPBACK}:{port}"
    async with AsyncMongoClient[dict[str, Any]](
        f"mongodb://{address}/?directConnection=true",
        serverSelectionTimeoutMS=500,
        socketTimeoutMS=5_000,
        serverMonitoringMode="poll",  # No second monitor that a quick close would leave half open.
    ) as client:
        while True:
            try:
                hello = await client.admin.command("hello")
                if hello.get("isWritablePrimary") and hello.get("me") == address:
                    return
                await _make_member(client, address)
            except PyMongoError:
                pass  # It is still starting, or recovering; the supervisor bounds the wait and sees it die.
            await asyncio.sleep(0.05)


async def _make_member(client: AsyncMongoClient[dict[str, Any]], address: str) -> None:
    """A node whose address is not in its own set's configuration (its port changed) removes itself until it is."""
    members = [{"_id": 0, "host": address}]
    try:
        config = (await client.admin.command("replSetGetConfig"))["config"]
    except OperationFailure as error:
        if error.code != NOT_YET_INITIALISED:
            raise
        await client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
        return
    if [member["host"] for member in config["members"]] != [address]:
        mended = {**config, "version": config["version"] + 1, "members": members}
        await client.admin.command("replSetReconfig", mended, force=True)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[str]:
    """A server of one's own on a free port, stopped at the end; yields its URL."""
    port = free_port()
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    program = find_mongod(os.environ.get("PATH", os.defpath))
    async with Supervisor(report=lambda _: None) as supervisor:
        await supervisor.start(part(program, data=data, port=port, log=folder / "mongod.log", memory_bytes=2**31))
        yield url(port)
