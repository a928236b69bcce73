"""The port's contract, on servers of its own: one alone, and a Cluster of two."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from fitness_api.identity import revocations_redis
from fitness_api.identity.revocations_redis import CHANNEL, RedisRevocations
from tests.sync.test_hints_redis import Server, ask, cluster, server, until

__all__ = ["cluster", "server"]  # fixtures

Revoked = tuple[str, str | None]


class Process:
    def __init__(self, revocations: RedisRevocations) -> None:
        self.revocations = revocations
        self.heard: list[Revoked] = []

    async def hears(self, *revoked: Revoked) -> None:
        await until(lambda: set(revoked) <= set(self.heard))


@asynccontextmanager
async def process(url: str) -> AsyncIterator[Process]:
    made = Process(RedisRevocations(url))
    async with made.revocations.running(lambda *revoked: made.heard.append(revoked)):
        await until(lambda: made.revocations.hears)
        yield made


def revoked(number: int) -> list[Revoked]:
    return [(str(uuid4()), str(uuid4()) if index % 2 else None) for index in range(number)]


async def every_revocation_is_heard_by_all(*processes: Process) -> None:
    announced = revoked(50)
    for index, (user_id, session_id) in enumerate(announced):
        processes[index % len(processes)].revocations.announce(user_id, session_id)
    for one in processes:
        await one.hears(*announced)


async def test_every_process_hears_each(server: Server) -> None:
    async with process(server.url) as here, process(server.url) as there, process(server.url) as elsewhere:
        await every_revocation_is_heard_by_all(here, there, elsewhere)


async def test_on_a_cluster_too(cluster: tuple[Server, Server]) -> None:
    first, second = cluster
    async with process(first.url) as here, process(second.url) as there:
        await every_revocation_is_heard_by_all(here, there)


async def test_the_last_words_are_heard(server: Server) -> None:
    [last] = revoked(1)
    async with process(server.url) as there:
        async with process(server.url) as here:
            here.revocations.announce(*last)
        await there.hears(last)


async def test_an_outage_is_known_and_what_was_announced_in_it_comes_after_it(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    [during] = revoked(1)
    async with process(server.url) as here, process(server.url) as there:
        await server.stop()
        await until(lambda: not here.revocations.hears and not there.revocations.hears)
        here.revocations.announce(*during)
        await server.start()
        await until(lambda: here.revocations.hears and there.revocations.hears)
        await every_revocation_is_heard_by_all(here, there)
        await until(lambda: not here.revocations._pending)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["Redis: no revocations come (ConnectionError)."] * 2


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations_redis, "MAX_PENDING", 10)
    revocations = RedisRevocations("redis://127.0.0.1:9/0")
    for user_id, session_id in revoked(20):
        revocations.announce(user_id, session_id)
    assert len(revocations._pending) == 10


async def test_a_server_that_says_nothing_is_left(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations_redis, "PING_EVERY_S", 0.05)
    monkeypatch.setattr(revocations_redis, "SILENT_S", 0.5)
    async with process(server.url) as here, Redis.from_url(server.url) as client:
        await asyncio.sleep(1)  # silence is no loss as long as it answers
        assert here.revocations.hears
        await ask(client, "CLIENT PAUSE", 2000, "ALL")
        await until(lambda: not here.revocations.hears)
        await until(lambda: here.revocations.hears)


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_a_connection_that_the_server_ends_is_made_anew(server: Server, kind: str) -> None:
    async with process(server.url) as here, Redis.from_url(server.url) as client:
        await ask(client, "CLIENT KILL TYPE", kind, "SKIPME", "yes")
        async with asyncio.timeout(20):
            while True:
                try:
                    async with asyncio.timeout(1):
                        await every_revocation_is_heard_by_all(here)
                    break
                except TimeoutError:
                    continue


async def test_rubbish_on_the_channel_does_no_harm(server: Server) -> None:
    async with process(server.url) as here, Redis.from_url(server.url) as client:
        for rubbish in (b"", b"\xff/\xff", b"a/b/c"):
            await client.publish(CHANNEL, rubbish)
        await every_revocation_is_heard_by_all(here)
