"""The port's contract, on a server alone, and on a Cluster of two."""

import asyncio
import secrets

import pytest
from redis.asyncio import Redis

from fitness_api.identity.dpop_replays_redis import RedisReplays
from fitness_api.identity.errors import StoreUnavailable
from fitness_api.redis_guarded import GuardedRedis
from tests.sync.test_hints_redis import Server, cluster

__all__ = ["cluster"]  # a fixture


async def one_of_all_is_the_first(*urls: str) -> None:
    clients = [GuardedRedis(url, within_s=10) for url in urls]
    for client in clients:  # connecting is not what is tried
        await RedisReplays(client).first(secrets.token_bytes(32), for_s=60)
    for _ in range(10):
        mark = secrets.token_bytes(32)
        firsts = await asyncio.gather(*(RedisReplays(client).first(mark, for_s=60) for client in clients * 5))
        assert firsts.count(True) == 1
    for client in clients:
        await client.aclose()


async def test_of_all_who_bring_a_mark_one_is_the_first(redis_url: str) -> None:
    await one_of_all_is_the_first(*[redis_url] * 5)


async def test_on_a_cluster_too(cluster: tuple[Server, Server]) -> None:
    await one_of_all_is_the_first(*(server.url for server in cluster))


async def test_a_mark_is_remembered_for_so_long(redis: Redis, redis_url: str) -> None:
    mark = secrets.token_bytes(32)
    client = GuardedRedis(redis_url)
    assert await RedisReplays(client).first(mark, for_s=360)
    await client.aclose()
    assert 355 < await redis.ttl(f"dpop:{mark.hex()}") <= 360


async def test_without_redis_nothing_is_accepted() -> None:
    with pytest.raises(StoreUnavailable):
        await RedisReplays(GuardedRedis("redis://127.0.0.1:9/0")).first(b"mark", for_s=60)
