"""The port's contract, on servers of its own: one alone, and a Cluster of two."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from fitness_api.embedded import valkey
from fitness_api.embedded.binaries import find_valkey
from fitness_api.embedded.data_directory import free_port
from fitness_api.embedded.supervisor import Supervisor
from sync import hints_redis
from sync.hints import Hints
from sync.hints_redis import RedisHints
from sync.nodes_redis import hash_tag, partition_of

OPTIONS = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--cluster-node-timeout", "1000")


class Server:
    """A Valkey that can be stopped and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._options = options
        self._running = AsyncExitStack()
        folder.mkdir()

    @property
    def url(self) -> str:
        return valkey.url(self.port)

    async def start(self) -> None:
        log = self._folder / "log"
        part = valkey.part(find_valkey(""), data=self._folder, port=self.port, log=log, memory_bytes=2**31)
        supervisor = await self._running.enter_async_context(Supervisor(report=lambda _: None))
        await supervisor.start(replace(part, argv=[*part.argv, *self._options]))

    async def stop(self) -> None:
        await self._running.aclose()


async def ask(client: Redis, *command: str | int) -> Any:
    return await client.execute_command(*command)  # type: ignore[no-untyped-call]


class Watcher:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self._called = asyncio.Event()

    def __call__(self) -> None:
        self.calls += 1
        self._called.set()

    async def called(self) -> None:
        """Return once it was called since this was last asked."""
        async with asyncio.timeout(20):
            await self._called.wait()
        self._called.clear()


@asynccontextmanager
async def process(url: str) -> AsyncIterator[RedisHints]:
    hints = RedisHints(url)
    async with hints.running():
        await until(lambda: hints._is_linked)
        yield hints


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path / "valkey")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[tuple[Server, Server]]:
    first, second = (
        Server(tmp_path / name, *OPTIONS, "--cluster-port", str(free_port())) for name in ("first", "second")
    )
    for server in (first, second):
        await server.start()
    async with Redis.from_url(first.url) as one, Redis.from_url(second.url) as other:
        await ask(one, "CLUSTER ADDSLOTSRANGE", 0, 8191)
        await ask(other, "CLUSTER ADDSLOTSRANGE", 8192, 16383)
        await ask(one, "CLUSTER MEET", "127.0.0.1", second.port, second._options[-1])
        async with asyncio.timeout(20):
            for client in (one, other):
                while (await ask(client, "CLUSTER INFO"))["cluster_slots_assigned"] != "16384":
                    await asyncio.sleep(0.05)
    yield first, second
    for server in (first, second):
        await server.stop()


def accounts(number: int) -> list[str]:
    return [str(uuid4()) for _ in range(number)]


async def every_announcement_is_heard(here: Hints, there: Hints, users: list[str]) -> None:
    watchers = {user: Watcher() for user in users}
    with AsyncExitStackOfWatches(there, watchers):
        for watcher in watchers.values():
            await watcher.called()  # the watch is in place
        for user in users:
            here.announce(user)
        for watcher in watchers.values():
            await watcher.called()


class AsyncExitStackOfWatches:
    def __init__(self, hints: Hints, watchers: dict[str, Watcher]) -> None:
        self._contexts = [hints.watch(user, watcher) for user, watcher in watchers.items()]

    def __enter__(self) -> None:
        for context in self._contexts:
            context.__enter__()

    def __exit__(self, *_: object) -> None:
        for context in self._contexts:
            context.__exit__(None, None, None)


async def test_announcements_reach_every_process_and_only_the_account_s_watchers(server: Server) -> None:
    mine, another = accounts(2)
    async with process(server.url) as here, process(server.url) as there:
        near, far, stranger = Watcher(), Watcher(), Watcher()
        with here.watch(mine, near), there.watch(mine, far), there.watch(another, stranger):
            for watcher in (near, far, stranger):
                await watcher.called()
            here.announce(mine)
            await near.called()
            await far.called()
            there.announce(mine)
            await near.called()
            await far.called()
            there.announce(another)
            await stranger.called()
            assert (near.calls, far.calls, stranger.calls) == (3, 3, 2)
        here.announce(mine)
        await asyncio.sleep(0.1)
        assert (near.calls, far.calls) == (3, 3)


async def test_a_second_watcher_of_an_account_is_told_at_once_and_the_first_stays(server: Server) -> None:
    [user] = accounts(1)
    async with process(server.url) as hints:
        first, second = Watcher(), Watcher()
        with hints.watch(user, first):
            await first.called()
            for _ in range(3):
                with hints.watch(user, second):
                    await second.called()
            hints.announce(user)
            await first.called()


async def test_many_accounts_that_come_and_go(server: Server) -> None:
    users = accounts(3 * hints_redis.BATCH)
    async with process(server.url) as here, process(server.url) as there:
        for _ in range(2):
            await every_announcement_is_heard(here, there, users)
        async with Redis.from_url(server.url) as client:
            async with asyncio.timeout(20):
                while await ask(client, "PUBSUB SHARDCHANNELS"):
                    await asyncio.sleep(0.05)


async def test_announcements_of_one_account_become_few(server: Server) -> None:
    [user] = accounts(1)
    async with process(server.url) as here, process(server.url) as there:
        watcher = Watcher()
        with there.watch(user, watcher):
            await watcher.called()
            for _ in range(1000):
                here.announce(user)
            await watcher.called()
            await asyncio.sleep(0.1)
            assert watcher.calls == 2


async def test_after_a_cut_everybody_is_told_and_hears_again(server: Server) -> None:
    users = accounts(20)
    async with process(server.url) as here, process(server.url) as there:
        watchers = {user: Watcher() for user in users}
        with AsyncExitStackOfWatches(there, watchers):
            for watcher in watchers.values():
                await watcher.called()
            await server.stop()
            await until(lambda: not here._is_linked and not there._is_linked)
            await server.start()
            for watcher in watchers.values():
                await watcher.called()
            for user in users:
                here.announce(user)
            for watcher in watchers.values():
                await watcher.called()


async def test_what_is_announced_during_an_outage_is_published_after_it(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    [user] = accounts(1)
    async with process(server.url) as here:
        await server.stop()
        await until(lambda: not here._is_linked)
        watcher = Watcher()
        with here.watch(user, watcher):
            await watcher.called()  # it cannot be told whether anything is missed, so sync
            here.announce(user)
            await watcher.called()  # those who are here need no Redis
        assert list(here._pending) == [user]
        await server.start()
        await until(lambda: not here._pending)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "Redis: no hints come (ConnectionError)."
    ]


async def test_waiting_announcements_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints_redis, "MAX_PENDING", 10)
    hints = RedisHints("redis://127.0.0.1:9/0")
    users = accounts(20)
    for user in [*users, *users]:
        hints.announce(user)
    assert list(hints._pending) == users[:10]


async def test_a_server_that_says_nothing_is_left(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints_redis, "PING_EVERY_S", 0.05)
    monkeypatch.setattr(hints_redis, "SILENT_S", 0.5)
    [user] = accounts(1)
    async with process(server.url) as hints, Redis.from_url(server.url) as client:
        watcher = Watcher()
        with hints.watch(user, watcher):
            await watcher.called()
            await asyncio.sleep(1)  # silence is no loss as long as it answers
            assert hints._is_linked
            assert watcher.calls == 1
            await ask(client, "CLIENT PAUSE", 2000, "ALL")
            await until(lambda: not hints._is_linked)
            await watcher.called()


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_a_connection_that_the_server_ends_is_made_anew(server: Server, kind: str) -> None:
    [user] = accounts(1)
    async with process(server.url) as hints, Redis.from_url(server.url) as client:
        watcher = Watcher()
        with hints.watch(user, watcher):
            await watcher.called()
            await ask(client, "CLIENT KILL TYPE", kind, "SKIPME", "yes")
            hints.announce(user)
            await watcher.called()
            await until(lambda: hints._is_linked and user in hints._confirmed)
            await asyncio.sleep(0.2)
            watcher._called.clear()
            hints.announce(user)
            await watcher.called()


async def test_a_command_that_is_not_permitted_is_not_tried_without_end(server: Server) -> None:
    [user] = accounts(1)
    async with Redis.from_url(server.url) as client:
        await ask(client, "ACL SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", "-ssubscribe")
        async with process(server.url.replace("//", "//limited:secret@")) as hints:
            with hints.watch(user, Watcher()):
                await asyncio.sleep(1.5)
        assert (await client.info("stats"))["total_connections_received"] < 25


async def test_on_a_cluster_each_account_has_its_node(cluster: tuple[Server, Server]) -> None:
    first, second = cluster
    async with process(first.url) as here, process(second.url) as there:
        await every_announcement_is_heard(here, there, accounts(200))
        assert len(here._nodes._known) == 3


async def test_on_a_cluster_a_slot_that_moves_is_followed(cluster: tuple[Server, Server]) -> None:
    first, second = cluster
    user = next(
        user for user in accounts(1000) if key_slot(hash_tag(partition_of(user)).encode()) < 8192
    )  # on the first node
    slot = key_slot(hash_tag(partition_of(user)).encode())
    async with process(second.url) as hints, Redis.from_url(first.url) as one, Redis.from_url(second.url) as other:
        watcher = Watcher()
        with hints.watch(user, watcher):
            await watcher.called()
            node = (await ask(other, "CLUSTER MYID")).decode()
            await ask(other, "CLUSTER SETSLOT", slot, "NODE", node)
            await ask(one, "CLUSTER SETSLOT", slot, "NODE", node)
            await watcher.called()
            await until(lambda: user in hints._confirmed)
            assert (await ask(other, "PUBSUB SHARDNUMSUB", hints_redis._channel(user)))[0][1] == 1
            hints.announce(user)
            await watcher.called()
