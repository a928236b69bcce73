"""The gateway's resources in the benchmark's own process, on real servers in a temporary directory."""

import base64
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pymongo import AsyncMongoClient

from fitness_api import migrate
from fitness_api.embedded import mongod, valkey
from fitness_api.resources import Resources, open_resources
from fitness_api.settings import Settings


@asynccontextmanager
async def opened(*, password_hashers: int = 2) -> AsyncIterator[Resources]:
    with TemporaryDirectory(prefix="fitness-bench-") as name:
        directory = Path(name)
        (directory / "mongod").mkdir()
        (directory / "valkey").mkdir()
        async with mongod.running(directory / "mongod") as mongo_url, valkey.running(directory / "valkey") as redis_url:
            settings = Settings(
                mongo_url=mongo_url,
                redis_url=redis_url,
                master_key=base64.b64encode(secrets.token_bytes(32)).decode(),
                mongo_database="bench",
                password_hashers=password_hashers,
                unlimited_networks="127.0.0.0/8",
            )
            async with AsyncMongoClient[dict[str, object]](mongo_url, w="majority", journal=True) as client:
                await migrate.migrate(client[settings.mongo_database])
            async with open_resources(settings) as resources:
                yield resources
