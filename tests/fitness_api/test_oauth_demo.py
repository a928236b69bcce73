"""The demonstration in scripts/ does what it says."""

import asyncio
import os
from pathlib import Path
from typing import Any

import httpx
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api import app
from fitness_api.settings import Settings
from tests.fitness_api.client import CREDENTIALS
from tests.fitness_api.gateway import gateway
from tests.fitness_api.oauth import administrator

SCRIPT = Path(__file__).parents[2] / "scripts" / "oauth-demo"


async def test_it_goes_through_all_of_it(settings: Settings, database: AsyncDatabase[dict[str, Any]]) -> None:
    async with gateway(app.build(settings)) as served:
        async with httpx.AsyncClient(base_url=served.url, trust_env=False) as api:
            await administrator(api, database)
        await database["accounts"].update_many({}, {"$set": {"email_verified": True}})
        environment = {
            **os.environ,
            "API": served.url,
            "EMAIL": "root@example.org",
            "PASSWORD": CREDENTIALS["password"],
            "NO_PROXY": "127.0.0.1",
        }
        process = await asyncio.create_subprocess_exec(
            str(SCRIPT), env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        printed, _ = await process.communicate()
    text = printed.decode()
    assert process.returncode == 0, text
    assert text.count("\nworkouts:read\n") == 2
    assert "\nanalytics:read\n" in text
    assert await database["oauth_clients"].count_documents({}) == 0
