"""Revocations through Redis or Valkey: one channel that every process hears, `revocations`.

Not a sharded channel as hints have: each is for everybody, they are few, and a Cluster carries a plain channel to all of its nodes.
One connection listens and another speaks; if anything is wrong with either, both are made anew.
"""

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection as Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from fitness_api.identity.revocations import Heard
from sync.nodes_redis import Nodes, call_all, send

CHANNEL: Final = "revocations"
# That wait for a Redis that is down, some 200 bytes each. Of those beyond, processes learn by their next check.
MAX_PENDING: Final = 10_000
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

_FAILURES: Final = (RedisError, OSError, TimeoutError)
_log: Final = logging.getLogger("fitness_api.revocations")


class RedisRevocations:
    """Nothing is connected before `running`; announcements wait until then."""

    def __init__(self, url: str) -> None:
        self._nodes = Nodes(url)
        self._is_linked = False
        self._is_publishing = False
        self._has_been_told_of_outage = False
        # Announced and not yet published; a dict for its order.
        self._pending: dict[str, None] = {}
        self._has_pending = asyncio.Event()

    @property
    def hears(self) -> bool:
        return self._is_linked

    def announce(self, user_id: str, session_id: str | None = None) -> None:
        if len(self._pending) < MAX_PENDING:
            self._pending[user_id if session_id is None else f"{user_id}/{session_id}"] = None
            self._has_pending.set()

    @asynccontextmanager
    async def running(self, heard: Heard) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run(heard))
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

    async def _run(self, heard: Heard) -> None:
        loop = asyncio.get_running_loop()
        pause_s = MIN_PAUSE_S
        while True:
            began_s = loop.time()
            try:
                await self._link(heard)
            except* _FAILURES as failures:
                self._say_that_it_is_down(failures)
            except* Exception:  # noqa: BLE001
                # A defect of ours must not leave a process deaf until its next start.
                _log.exception("Revocations stopped.")
            pause_s = MIN_PAUSE_S if loop.time() - began_s > STEADY_AFTER_S else min(MAX_PAUSE_S, 2 * pause_s)
            self._is_linked = False
            # Every process lost the same server at the same time.
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311

    async def _link(self, heard: Heard) -> None:
        """Runs until something is wrong."""
        address = (await self._nodes.topology()).addresses[0]
        async with self._nodes.connected(address) as listening, self._nodes.connected(address) as speaking:
            await send(listening, [("SUBSCRIBE", CHANNEL)])
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(listening, heard))
                tasks.create_task(_ping(listening))
                tasks.create_task(self._publish(speaking))

    async def _listen(self, connection: Connection, heard: Heard) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(SILENT_S) as patience:
            while True:
                answer = await connection.read_response(timeout=math.inf)
                patience.reschedule(loop.time() + SILENT_S)
                self._hear(answer, heard)

    def _hear(self, answer: Any, heard: Heard) -> None:
        match answer:
            case [b"message", _, bytes(revoked)]:
                user_id, _, session_id = revoked.decode("utf-8", "replace").partition("/")
                heard(user_id, session_id or None)
            case [b"subscribe", _, _]:
                self._is_linked = True
                if self._has_been_told_of_outage:
                    self._has_been_told_of_outage = False
                    _log.info("Redis: revocations come again.")
            case b"PONG" | [b"pong", _]:
                pass
            case _:
                raise RedisConnectionError("An answer that nobody asked for.")

    async def _publish(self, connection: Connection) -> None:
        while True:
            self._has_pending.clear()
            while batch := list(islice(self._pending, BATCH)):
                # Taken out first: what is announced while this is on its way is published again.
                for revoked in batch:
                    del self._pending[revoked]
                self._is_publishing = True
                try:
                    async with asyncio.timeout(ANSWER_WITHIN_S):
                        await call_all(connection, [("PUBLISH", CHANNEL, revoked) for revoked in batch])
                except BaseException:
                    self._pending = dict.fromkeys(batch) | self._pending
                    raise
                finally:
                    self._is_publishing = False
            await self._has_pending.wait()

    def _say_that_it_is_down(self, failure: BaseException) -> None:
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
        # Once an outage. The class says what is wrong; the text names hosts.
        if not self._has_been_told_of_outage:
            self._has_been_told_of_outage = True
            _log.warning("Redis: no revocations come (%s).", type(failure).__name__)


async def _ping(connection: Connection) -> None:
    while True:
        await asyncio.sleep(PING_EVERY_S)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            await send(connection, [("PING",)])
