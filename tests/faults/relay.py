"""A network that breaks: it stands between devices and a gateway, and cuts connections at the worst moments."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from fitness_api.embedded.data_directory import LOOPBACK

# Where a connection is cut: a part of the request came through; all of it; the answer was sent, none of it arrived; a part did.
Cut = Literal["in request", "before answer", "answer lost", "in answer"]

_CHUNK_BYTES = 1 << 16


class Relay:
    """`odds`: how often a piece that passes is the connection's last."""

    def __init__(self, target_port: int, *, seed: int) -> None:
        self.odds = 0.0
        self.cuts: Counter[Cut] = Counter()
        self.url = ""
        self._target_port = target_port
        self._dice = random.Random(seed)
        self._connections: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._carry(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        # Also of one that was ended before it began.
        connection.add_done_callback(lambda _: writer.transport.abort())

    async def end(self) -> None:
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _carry(self, device_reader: asyncio.StreamReader, device_writer: asyncio.StreamWriter) -> None:
        gateway_reader, gateway_writer = await asyncio.open_connection(LOOPBACK, self._target_port)
        ways = (
            asyncio.create_task(self._pass_on(device_reader, gateway_writer, "in request", "before answer")),
            asyncio.create_task(self._pass_on(gateway_reader, device_writer, "in answer", "answer lost")),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gateway_writer.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, half: Cut, end: Cut) -> None:
        while piece := await reader.read(_CHUNK_BYTES):
            if self._dice.random() < self.odds:
                cut = self._dice.choice((half, end))
                self.cuts[cut] += 1
                if cut != "answer lost":
                    writer.write(piece if cut == "before answer" else piece[: len(piece) // 2])
                    await writer.drain()
                    await asyncio.sleep(0)  # what is written reaches the kernel before the connection is aborted
                return
            writer.write(piece)
            await writer.drain()


@asynccontextmanager
async def relaying(target_port: int, *, seed: int) -> AsyncIterator[Relay]:
    relay = Relay(target_port, seed=seed)
    server = await asyncio.start_server(relay.accept, LOOPBACK, 0)
    relay.url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    async with server:
        try:
            yield relay
        finally:
            await relay.end()
