"""The cache is emptied and dies under load. It holds nothing of sync, which must not notice: not one request may fail.

Hints go through it: they may be missed while it is away, and come again.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect

from tests.faults.crowd import DRAINED_WITHIN_S, Account, Crowd
from tests.faults.history import problems
from tests.faults.servers import Gateway, gateways, one_mongod, one_valkey


async def cache_is(gateway: Gateway, *, ok: bool) -> None:
    """Returns when the gateway itself says so."""
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            ready = await client.get(f"{gateway.url}/readyz")
            assert ready.status_code == 200, ready.text
            if ready.json()["dependencies"]["redis"]["ok"] is ok:
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def listening(gateway: Gateway, account: Account) -> AsyncIterator[asyncio.Event]:
    """Give an event that is set by every hint."""
    heard = asyncio.Event()
    url = gateway.url.replace("http", "ws", 1) + "/v1/sync/live"

    async def listen(socket: ClientConnection) -> None:
        async for message in socket:
            if json.loads(message)["type"] == "changed":
                heard.set()

    async with connect(url, additional_headers={"Authorization": f"Bearer {account.access_token}"}) as socket:
        task = asyncio.create_task(listen(socket))
        yield heard
        assert not task.done(), "the connection outlives the cache"
        task.cancel()


async def test_sync_does_not_notice(tmp_path: Path, record_property: Any) -> None:
    async with (
        one_mongod(tmp_path) as (_, mongo_url),
        one_valkey(tmp_path) as (valkey, redis_url),
        gateways(tmp_path, 1, mongo_url, redis_url) as [gateway],
        Crowd([gateway.url], seed=5) as crowd,
    ):
        await crowd.sign_up(accounts=2, devices=3)
        async with crowd.at_work(), listening(gateway, crowd.accounts[0]) as heard:
            await crowd.uploading()
            async with Redis.from_url(redis_url) as client:
                await client.flushall()
            await crowd.is_served()
            await valkey.kill()
            await cache_is(gateway, ok=False)
            await crowd.is_served()
            await valkey.start()
            await cache_is(gateway, ok=True)
            await crowd.is_served()
            # Devices are told again, too: of what they may have missed, and then of each upload.
            for _ in range(2):
                heard.clear()
                async with asyncio.timeout(DRAINED_WITHIN_S):
                    await heard.wait()
        histories = await crowd.at_rest(mongo_url)
        crowd.record(record_property)
        for history in histories:
            assert problems(history) == []
        assert not crowd.failures
