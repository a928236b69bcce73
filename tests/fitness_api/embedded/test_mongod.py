from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from fitness_api.embedded import mongod
from fitness_api.embedded.binaries import find_mongod
from fitness_api.embedded.data_directory import LOOPBACK, free_port
from fitness_api.embedded.supervisor import Supervisor

Client = AsyncMongoClient[dict[str, Any]]


@pytest.mark.parametrize(("memory_gib", "expected_gib"), [(0.5, 0.25), (2, 0.25), (4, 0.5), (8, 1.0), (512, 1.0)])
def test_the_cache_is_modest(memory_gib: float, expected_gib: float) -> None:
    assert mongod.cache_gib(int(memory_gib * 2**30)) == expected_gib


@asynccontextmanager
async def serving(folder: Path, port: int) -> AsyncIterator[Client]:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    part = mongod.part(find_mongod(""), data=data, port=port, log=folder / "log", memory_bytes=2**31)
    async with Supervisor(report=lambda _: None) as supervisor:
        await supervisor.start(part)
        async with Client(mongod.url(port)) as client:
            yield client


async def test_data_survives_a_restart_and_a_change_of_port(tmp_path: Path) -> None:
    """A new port is a new address in the replica set's configuration, without which the node is no member."""
    first, second = free_port(), free_port()
    for port, there in ((first, 0), (first, 1), (second, 2)):
        async with serving(tmp_path, port) as client:
            assert await client.fitness.kept.count_documents({}) == there
            async with client.start_session() as session, await session.start_transaction():
                await client.fitness.kept.insert_one({}, session=session)


async def test_it_listens_on_loopback_only_and_is_journaled(mongo_url: str) -> None:
    async with Client(mongo_url) as client:
        parsed = (await client.admin.command("getCmdLineOpts"))["parsed"]
        hello = await client.admin.command("hello")
    assert parsed["net"]["bindIp"] == LOOPBACK
    assert hello["setName"] == mongod.REPLICA_SET
    assert hello["isWritablePrimary"]
