"""Real servers, started once a session by the same code as `fitness-api up`; FITNESS_TEST_MONGO_URL and
FITNESS_TEST_REDIS_URL name servers that run already.
"""

import os
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import settings
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from redis.asyncio import Redis

from fitness_api import migrate
from fitness_api.embedded import mongod, valkey

# No test asserts how long an example takes: a machine that is busy proves nothing.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
async def mongo_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    if url := os.environ.get("FITNESS_TEST_MONGO_URL"):
        yield polled(url)
        return
    async with mongod.running(tmp_path_factory.mktemp("mongod")) as url:
        yield polled(url)


def polled(url: str) -> str:
    """PyMongo's second monitor leaks its socket when the client is closed while it connects, as short tests do."""
    return f"{url}{'&' if '?' in url else '?'}serverMonitoringMode=poll"


@pytest.fixture(scope="session")
async def redis_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    if url := os.environ.get("FITNESS_TEST_REDIS_URL"):
        yield url
        return
    async with valkey.running(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture(scope="session")
async def mongo(mongo_url: str) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    async with AsyncMongoClient[dict[str, Any]](
        mongo_url, w="majority", journal=True, readConcernLevel="majority", tz_aware=True
    ) as client:
        yield client


@pytest.fixture(scope="session")
async def migrated(mongo: AsyncMongoClient[dict[str, Any]]) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    name = f"test_{uuid.uuid4().hex[:16]}"
    await migrate.migrate(mongo[name])
    yield mongo[name]
    await mongo.drop_database(name)


@pytest.fixture
async def database(migrated: AsyncDatabase[dict[str, Any]]) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    """A migrated, empty database, written with w: majority and j: true.

    It is emptied and lent to the next test: making its collections anew takes 0.4 s, emptying them 0.01 s.
    """
    collections = await migrated.list_collection_names()
    yield migrated
    for name in await migrated.list_collection_names():
        if name in collections:
            await migrated[name].delete_many({})
        else:
            await migrated.drop_collection(name)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """The server is shared by all tests: name keys by random ids."""
    async with Redis.from_url(redis_url) as client:
        yield client
