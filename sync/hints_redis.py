"""Hints through Redis or Valkey, standalone or Cluster: a sharded channel for each account that is watched here.

Channels are `hints:{h<partition>}:<user id>`. One connection to each node listens, another speaks; if anything is wrong with any of
them (lost, silent, a slot that moved), all are made anew, and every watcher is told, because hints may have been missed.
"""

import asyncio
import logging
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from itertools import islice
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection as Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from sync.nodes_redis import Address, Nodes, Topology, call_all, hash_tag, partition_of, send

# Announcements that wait for a Redis that is down, some 150 bytes each; of those beyond, devices learn by their next sync.
MAX_PENDING: Final = 100_000
# Announcements or subscriptions in one go: some 60 KB.
BATCH: Final = 500
# What a node that lives answers within, the time of a fail-over left out.
ANSWER_WITHIN_S: Final = 5.0
PING_EVERY_S: Final = 3.0
SILENT_S: Final = 10.0
# What was announced just before the end is still published, unless Redis is down.
LAST_WORDS_WITHIN_S: Final = 1.0
MIN_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 5.0
# A link that ends sooner has not worked: a command that is not permitted, say.
STEADY_AFTER_S: Final = 10.0
# After a cut everybody who is watched is to sync: 2,000 accounts a second from one process, and not all at once.
RETOLD: Final = 200
RETOLD_EVERY_S: Final = 0.1

_FAILURES: Final = (RedisError, OSError, TimeoutError)
_log: Final = logging.getLogger("sync.hints")

Connections = Mapping[Address, Connection]


class SlotMoved(RedisError):
    """The node no longer carries a channel that was subscribed there."""


class RedisHints:
    """Nothing is connected before `running`; announcements wait until then."""

    def __init__(self, url: str) -> None:
        self._nodes = Nodes(url)
        self._watchers: dict[str, dict[object, Callable[[], None]]] = {}
        self._is_linked = False
        self._linked_at_s = 0.0
        self._has_been_told_of_outage = False
        # Announced and not yet published; a dict for its order.
        self._pending: dict[str, None] = {}
        self._has_pending = asyncio.Event()
        self._is_publishing = False
        # Accounts whose subscription may differ from what their watchers want.
        self._unsettled: dict[str, None] = {}
        self._has_unsettled = asyncio.Event()
        self._subscribed: set[str] = set()
        self._confirmed: set[str] = set()
        self._leaving: Counter[str] = Counter()
        # Watched when the link came up: told one after another once their subscription is confirmed.
        self._cut_off: set[str] = set()
        self._owed: dict[str, None] = {}
        self._has_owed = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run())
        try:
            yield
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_WITHIN_S):
                    while self._pending or self._is_publishing:  # noqa: ASYNC110 once, at the end
                        await asyncio.sleep(0.01)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    @property
    def hears(self) -> bool:
        return self._is_linked

    def announce(self, user_id: str) -> None:
        if user_id in self._pending or len(self._pending) < MAX_PENDING:
            self._pending[user_id] = None
            self._has_pending.set()
        if not self._is_linked:
            self._tell(user_id)

    @contextmanager
    def watch(self, user_id: str, notify: Callable[[], None]) -> Iterator[None]:
        mine = self._watchers.setdefault(user_id, {})
        handle = object()
        mine[handle] = notify
        if user_id in self._confirmed or not self._is_linked:
            notify()
        self._unsettle(user_id)
        try:
            yield
        finally:
            del mine[handle]
            if not mine:
                del self._watchers[user_id]
                self._unsettle(user_id)

    def _unsettle(self, user_id: str) -> None:
        if self._is_linked and (user_id in self._watchers) != (user_id in self._subscribed):
            self._unsettled[user_id] = None
            self._has_unsettled.set()

    def _tell(self, user_id: str) -> None:
        self._owed.pop(user_id, None)
        for notify in list(self._watchers.get(user_id, {}).values()):
            notify()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = MIN_PAUSE_S
        while True:
            try:
                await self._link()
            except* _FAILURES as failures:
                self._say_that_it_is_down(failures.exceptions[0])
            except* Exception:  # noqa: BLE001
                # A defect of ours must not leave a process without hints until its next start.
                _log.exception("Hints stopped.")
            has_lasted = self._is_linked and loop.time() - self._linked_at_s > STEADY_AFTER_S
            pause_s = MIN_PAUSE_S if has_lasted else min(MAX_PAUSE_S, 2 * pause_s)
            self._unlink()
            # Every process lost the same server at the same time.
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311

    async def _link(self) -> None:
        """Runs until something is wrong."""
        topology = await self._nodes.topology()
        async with AsyncExitStack() as opened:
            listening = {a: await opened.enter_async_context(self._nodes.connected(a)) for a in topology.addresses}
            speaking = {a: await opened.enter_async_context(self._nodes.connected(a)) for a in topology.addresses}
            self._is_linked = True
            self._linked_at_s = asyncio.get_running_loop().time()
            self._unsettled = dict.fromkeys(self._watchers)
            self._cut_off = set(self._watchers)
            self._has_unsettled.set()
            self._has_pending.set()
            if self._has_been_told_of_outage:
                self._has_been_told_of_outage = False
                _log.info("Redis: hints come again.")
            async with asyncio.TaskGroup() as tasks:
                for connection in listening.values():
                    tasks.create_task(self._listen(connection))
                    tasks.create_task(_ping(connection))
                tasks.create_task(self._settle(topology, listening))
                tasks.create_task(self._publish(topology, speaking))
                tasks.create_task(self._tell_the_cut_off())

    def _unlink(self) -> None:
        self._is_linked = False
        self._subscribed.clear()
        self._confirmed.clear()
        self._leaving.clear()
        self._unsettled.clear()
        self._owed.clear()

    def _say_that_it_is_down(self, failure: BaseException) -> None:
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
        # Once an outage. The class says what is wrong; the text names hosts.
        if not self._has_been_told_of_outage:
            self._has_been_told_of_outage = True
            _log.warning("Redis: no hints come (%s).", type(failure).__name__)

    async def _publish(self, topology: Topology, connections: Connections) -> None:
        while True:
            await self._has_pending.wait()
            self._has_pending.clear()
            while batch := list(islice(self._pending, BATCH)):
                # Taken out first: who is announced while this is on its way is published again.
                for user_id in batch:
                    del self._pending[user_id]
                self._is_publishing = True
                try:
                    async with asyncio.timeout(ANSWER_WITHIN_S), asyncio.TaskGroup() as tasks:
                        for address, user_ids in topology.by_node(batch).items():
                            commands = [("SPUBLISH", _channel(user_id), "") for user_id in user_ids]
                            tasks.create_task(call_all(connections[address], commands))
                except BaseException:
                    self._pending = dict.fromkeys(batch) | self._pending
                    raise
                finally:
                    self._is_publishing = False

    async def _settle(self, topology: Topology, connections: Connections) -> None:
        """Subscribe and unsubscribe, all accounts of a partition by one command."""
        while True:
            await self._has_unsettled.wait()
            self._has_unsettled.clear()
            while batch := list(islice(self._unsettled, BATCH)):
                for user_id in batch:
                    del self._unsettled[user_id]
                joining = [one for one in batch if one in self._watchers and one not in self._subscribed]
                leaving = [one for one in batch if one not in self._watchers and one in self._subscribed]
                self._subscribed.update(joining)
                self._subscribed.difference_update(leaving)
                self._confirmed.difference_update(leaving)
                self._leaving.update(leaving)
                for command, user_ids in (("SSUBSCRIBE", joining), ("SUNSUBSCRIBE", leaving)):
                    for address, theirs in topology.by_node(user_ids).items():
                        connection = connections[address]
                        commands = [(command, *channels) for channels in _by_partition(theirs)]
                        async with asyncio.timeout(ANSWER_WITHIN_S):
                            await send(connection, commands)

    async def _listen(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(SILENT_S) as patience:
            while True:
                answer = await connection.read_response(timeout=math.inf)
                patience.reschedule(loop.time() + SILENT_S)
                self._hear(answer)

    def _hear(self, answer: Any) -> None:
        match answer:
            case [b"smessage", bytes(channel), _]:
                self._tell(_user_id(channel))
            case [b"ssubscribe", bytes(channel), _]:
                user_id = _user_id(channel)
                if user_id in self._subscribed:
                    self._confirmed.add(user_id)
                if user_id in self._cut_off:
                    self._cut_off.discard(user_id)
                    self._owed[user_id] = None
                    self._has_owed.set()
                else:
                    self._tell(user_id)
            case [b"sunsubscribe", bytes(channel), _]:
                user_id = _user_id(channel)
                if not self._leaving[user_id]:
                    raise SlotMoved(f"{channel!r} went elsewhere.")
                self._leaving[user_id] -= 1
                if not self._leaving[user_id]:
                    del self._leaving[user_id]
            case b"PONG" | [b"pong", _]:
                pass
            case _:
                raise RedisConnectionError("An answer that nobody asked for.")

    async def _tell_the_cut_off(self) -> None:
        while True:
            await self._has_owed.wait()
            self._has_owed.clear()
            while batch := list(islice(self._owed, RETOLD)):
                for user_id in batch:
                    self._tell(user_id)
                await asyncio.sleep(RETOLD_EVERY_S)


async def _ping(connection: Connection) -> None:
    while True:
        await asyncio.sleep(PING_EVERY_S)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            await send(connection, [("PING",)])


def _channel(user_id: str) -> str:
    return f"hints:{hash_tag(partition_of(user_id))}:{user_id}"


def _user_id(channel: bytes) -> str:
    return channel.rpartition(b":")[2].decode()


def _by_partition(user_ids: Iterable[str]) -> list[list[str]]:
    channels: dict[int, list[str]] = {}
    for user_id in user_ids:
        channels.setdefault(partition_of(user_id), []).append(_channel(user_id))
    return list(channels.values())
