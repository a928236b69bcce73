"""Which Redis or Valkey node carries which partition, standalone or Cluster, and plain connections to them.

The driver's own pub/sub reconnects by itself and in silence, and polls a Cluster's nodes one after another. Whoever must know that
messages may have been missed, and must hear them at once, needs the connections themselves.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from zlib import crc32

from redis.asyncio.connection import AbstractConnection as Connection
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

# Accounts are spread over so many hash tags, each of them one slot: one command can name all of a tag's channels, and a process that
# comes back names thousands of accounts in some hundred commands. Many, so that six nodes get shares that differ by a few percent.
PARTITIONS: Final = 1024
CONNECT_WITHIN_S: Final = 5.0

Address = tuple[str, int] | None
"""Host and port; None: what the URL says."""


def partition_of(user_id: str) -> int:
    return crc32(user_id.encode()) % PARTITIONS


def hash_tag(partition: int) -> str:
    return f"{{h{partition}}}"


class Topology(NamedTuple):
    """One reading of it; `of` has each partition's node."""

    of: Sequence[Address]

    @property
    def addresses(self) -> list[Address]:
        return list(dict.fromkeys(self.of))

    def by_node(self, user_ids: Iterable[str]) -> dict[Address, list[str]]:
        groups: dict[Address, list[str]] = {}
        for user_id in user_ids:
            groups.setdefault(self.of[partition_of(user_id)], []).append(user_id)
        return groups


class Nodes:
    """Opens nothing by itself. What goes wrong is the driver's: RedisError or OSError, and TimeoutError."""

    def __init__(self, url: str) -> None:
        # RESP2 has one form for what is pushed. A retry here would connect anew, and nobody would know that messages were missed. A
        # timeout here goes through asyncio.wait_for, which before Python 3.12 may lose a cancellation; callers have their own.
        self._pool = ConnectionPool.from_url(
            url, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=None, socket_connect_timeout=CONNECT_WITHIN_S
        )
        self._known: list[Address] = [None]

    @asynccontextmanager
    async def connected(self, address: Address) -> AsyncIterator[Connection]:
        kwargs = dict(self._pool.connection_kwargs)
        if address is not None:
            kwargs["host"], kwargs["port"] = address
        connection: Connection = self._pool.connection_class(**kwargs)
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await connection.connect()  # type: ignore[no-untyped-call]
            yield connection
        finally:
            await connection.disconnect(nowait=True)

    async def topology(self) -> Topology:
        """Ask whom the URL names, and where that one is gone the nodes known from before."""
        *others, last = self._known
        for address in others:
            try:
                return await self._ask(address)
            except (RedisError, OSError):
                continue
        return await self._ask(last)

    async def _ask(self, address: Address) -> Topology:
        async with self.connected(address) as connection, asyncio.timeout(CONNECT_WITHIN_S):
            await connection.send_command("INFO", "cluster")
            if b"cluster_enabled:1" not in await connection.read_response():
                return Topology([None] * PARTITIONS)
            await connection.send_command("CLUSTER", "SLOTS")
            ranges = await connection.read_response()
        found = Topology(
            [_primary(key_slot(hash_tag(number).encode()), ranges, address) for number in range(PARTITIONS)]
        )
        self._known = list(dict.fromkeys([None, *found.addresses]))
        return found


def _primary(slot: int, ranges: Sequence[Sequence[Any]], asked: Address) -> Address:
    for first, last, primary, *_ in ranges:
        if first <= slot <= last:
            host, port = primary[0], primary[1]
            # No host means: the one that was asked.
            return (host.decode(), port) if host else asked
    raise RedisConnectionError(f"No node has slot {slot}.")


async def send(connection: Connection, commands: Iterable[Sequence[str]]) -> None:
    if not connection.is_connected:
        # The driver would connect anew, and nobody would know that what was subscribed is gone.
        raise RedisConnectionError("The connection was lost.")
    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)


async def call_all(connection: Connection, commands: Sequence[Sequence[str]]) -> None:
    """Send all at once, and read every answer. Raises the first that is an error."""
    await send(connection, commands)
    failure: RedisError | None = None
    for _ in commands:
        try:
            await connection.read_response()
        except RedisConnectionError:
            raise
        except RedisError as error:
            failure = failure or error
    if failure is not None:
        raise failure
