import asyncio
import secrets

import pytest
from redis.asyncio import Redis

from fitness_api.identity.dpop_replays_redis import RedisReplays
from fitness_api.identity.errors import StoreUnavailable


async def test_of_all_who_bring_a_mark_one_is_the_first(redis_url: str) -> None:
    clients = [Redis.from_url(redis_url) for _ in range(5)]
    mark, other = secrets.token_bytes(32), secrets.token_bytes(32)
    firsts = await asyncio.gather(*(RedisReplays(client).first(mark, for_s=60) for client in clients * 10))
    assert firsts.count(True) == 1
    assert await RedisReplays(clients[0]).first(other, for_s=60)
    for client in clients:
        await client.aclose()


async def test_a_mark_is_remembered_for_so_long(redis: Redis) -> None:
    mark = secrets.token_bytes(32)
    assert await RedisReplays(redis).first(mark, for_s=360)
    [key] = [key async for key in redis.scan_iter(match=f"*{mark.hex()}")]
    assert 355 < await redis.ttl(key) <= 360


async def test_without_redis_nothing_is_accepted() -> None:
    async with Redis.from_url("redis://127.0.0.1:9/0") as nowhere:
        with pytest.raises(StoreUnavailable):
            await RedisReplays(nowhere).first(b"mark", for_s=60)
