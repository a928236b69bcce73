import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fitness_api.breaker import FAILURES_TO_OPEN, FIRST_PAUSE_S
from fitness_api.embedded.data_directory import free_port
from fitness_api.redis_guarded import GuardedRedis, RedisUnavailable


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def ping(client: Any) -> Awaitable[Any]:
    answer: Awaitable[Any] = client.execute_command("PING")
    return answer


@asynccontextmanager
async def silent() -> AsyncIterator[tuple[str, list[int]]]:
    """A server that takes connections and never answers; yields its URL and one item a connection."""
    connections: list[int] = []

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", connections


async def test_it_answers(redis_url: str) -> None:
    redis = GuardedRedis(redis_url, within_s=20)
    assert await asyncio.gather(*(redis.run(ping) for _ in range(100))) == [True] * 100
    assert redis.answers
    await redis.aclose()


async def test_one_that_is_down_is_asked_a_few_times_and_then_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    asked = 0

    def ask(client: Any) -> Awaitable[Any]:
        nonlocal asked
        asked += 1
        return ping(client)

    clock = Clock()
    redis = GuardedRedis(f"redis://127.0.0.1:{free_port()}/0", now_s=clock)
    with caplog.at_level(logging.INFO, "fitness_api.redis"):
        for _ in range(20):
            with pytest.raises(RedisUnavailable):
                await redis.run(ask)
    assert not redis.answers
    assert [record.message for record in caplog.records] == ["Redis is left alone for a while (ConnectionError)."]
    assert asked == 0  # it was not even connected
    await redis.aclose()


async def test_one_that_is_silent_costs_a_few_requests_their_patience_and_the_rest_nothing() -> None:
    clock = Clock()
    async with silent() as (url, connections):
        redis = GuardedRedis(url, within_s=0.05, now_s=clock)
        for _ in range(50):
            with pytest.raises(RedisUnavailable):
                await redis.run(ping)
        assert len(connections) == FAILURES_TO_OPEN
        clock.now_s += FIRST_PAUSE_S
        for _ in range(50):
            with pytest.raises(RedisUnavailable):
                await redis.run(ping)
        assert len(connections) == FAILURES_TO_OPEN + 1
        await redis.aclose()


async def test_it_is_used_again_once_it_answers(redis_url: str) -> None:
    clock = Clock()
    redis = GuardedRedis(redis_url, within_s=20, now_s=clock)

    async def fails(_: Any) -> None:
        raise ConnectionResetError

    for _ in range(FAILURES_TO_OPEN):
        with pytest.raises(RedisUnavailable):
            await redis.run(fails)
    with pytest.raises(RedisUnavailable):
        await redis.run(ping)
    clock.now_s += FIRST_PAUSE_S
    assert await redis.run(ping)
    assert redis.answers
    await redis.aclose()


async def test_a_fault_of_ours_is_no_outage(redis_url: str) -> None:
    redis = GuardedRedis(redis_url, within_s=20)

    async def fault(_: Any) -> None:
        raise KeyError

    for _ in range(2 * FAILURES_TO_OPEN):
        with pytest.raises(KeyError):
            await redis.run(fault)
    assert await redis.run(ping)
    await redis.aclose()
