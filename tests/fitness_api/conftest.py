"""A gateway over the tests' own database, served without a socket."""

from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api import app
from fitness_api.settings import Settings
from tests.fitness_api.serving import serving


@pytest.fixture
def settings(database: AsyncDatabase[dict[str, Any]], mongo_url: str, redis_url: str) -> Settings:
    return Settings(
        mongo_url=mongo_url,
        redis_url=redis_url,
        mongo_database=database.name,
        master_key=b64encode(b"m" * 32).decode(),
        public_url="http://api.test/",
        password_hashers=1,
        # Hundreds of tests come from here, and mean other things.
        unlimited_networks="127.0.0.0/8",
    )


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(app.build(settings)) as client:
        yield client
