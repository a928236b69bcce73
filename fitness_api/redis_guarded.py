"""Redis or Valkey, standalone or Cluster, for what a request waits for: answered soon or not at all.

    answer = await redis.run(lambda client: client.execute_command("GET", key))

A Redis that is down costs a few requests WITHIN_S each, then nothing: a breaker opens, and one request now and then tries again.
Keys of one command have to share a hash tag.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from fitness_api.breaker import Breaker

# Hundreds of times what a node on the same network takes; a request that waited for longer is better off without.
WITHIN_S: Final = 0.5
# Of one process to one node. Beyond it commands queue here, where waiting is nothing that Redis is blamed for.
MAX_CONNECTIONS: Final = 32

_FAILURES: Final = (RedisError, RedisClusterException, OSError, TimeoutError)
_log: Final = logging.getLogger("fitness_api.redis")

# The driver's stubs know commands on a Redis only; both kinds take `execute_command`.
Client = Any
T = TypeVar("T")


class RedisUnavailable(Exception):
    """It did not answer in time, or has not lately and was not asked."""


class GuardedRedis:
    """Nothing is connected before the first `run`."""

    def __init__(self, url: str, *, within_s: float = WITHIN_S, now_s: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._within_s = within_s
        self._now_s = now_s
        self._breaker = Breaker()
        self._clients: list[Redis | RedisCluster] = []
        self._connecting = asyncio.Lock()
        self._room = asyncio.Semaphore(MAX_CONNECTIONS)

    @property
    def answers(self) -> bool:
        """Whether it did when it was last asked."""
        return not self._breaker.is_open

    async def run(self, command: Callable[[Client], Awaitable[T]]) -> T:
        """Raises RedisUnavailable; whether the command took effect is not known then."""
        if not self._breaker.admits(self._now_s()):
            raise RedisUnavailable
        try:
            async with self._room, asyncio.timeout(self._within_s):
                answer = await command(await self._client())
        except _FAILURES as failure:
            was_open = self._breaker.is_open
            self._breaker.failed(self._now_s())
            if self._breaker.is_open and not was_open:
                # Once an outage. The class says what is wrong; the text names hosts.
                _log.warning("Redis is left alone for a while (%s).", type(failure).__name__)
            raise RedisUnavailable from failure
        if self._breaker.is_open:
            _log.info("Redis answers again.")
        self._breaker.succeeded()
        return answer

    async def aclose(self) -> None:
        while self._clients:
            await self._clients.pop().aclose()

    async def _client(self) -> Client:
        if not self._clients:
            async with self._connecting:
                if not self._clients:
                    self._clients.append(await self._connected())
        return self._clients[0]

    async def _connected(self) -> Redis | RedisCluster:
        # No retries: the breaker's pause is the retry, and a count that may have been taken is not taken again.
        patience = {"socket_timeout": self._within_s, "socket_connect_timeout": self._within_s}
        pool = BlockingConnectionPool.from_url(
            self._url, max_connections=MAX_CONNECTIONS, timeout=None, retry=Retry(NoBackoff(), 0), **patience
        )
        alone = Redis.from_pool(pool)
        try:
            information = await alone.info("cluster")
        except BaseException:
            await alone.aclose()
            raise
        if not information.get("cluster_enabled"):
            return alone
        await alone.aclose()
        # It follows a slot that moved by itself, within the time that a command has here.
        return RedisCluster.from_url(
            self._url, max_connections=MAX_CONNECTIONS, require_full_coverage=False, **patience
        )
