"""Opens what a process needs, in order, and closes it in reverse. Handlers read it typed: `Request[Resources]`."""

from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypedDict

from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from fitness_api.settings import Settings
from sync import cursor
from sync.store import Store
from sync.store_mongo import MongoStore


class Resources(TypedDict):
    settings: Settings
    mongo: AsyncMongoClient[dict[str, Any]]
    redis: Redis
    sync_store: Store
    cursor_key: bytes


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    mongo: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        settings.mongo_url,
        w="majority",
        journal=True,
        readConcernLevel="majority",
        maxPoolSize=settings.mongo_pool_size,
        serverSelectionTimeoutMS=5_000,
        timeoutMS=10_000,
        appname="fitness-api",
        tz_aware=True,
    )
    database = mongo[settings.mongo_database]
    master_key = b64decode(settings.master_key)
    redis = Redis.from_url(settings.redis_url, socket_timeout=5, socket_connect_timeout=5)
    try:
        yield {
            "settings": settings,
            "mongo": mongo,
            "redis": redis,
            "sync_store": MongoStore(database),
            "cursor_key": cursor.derive_key(master_key),
        }
    finally:
        await redis.aclose()
        await mongo.close()
