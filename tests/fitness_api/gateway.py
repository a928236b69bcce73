"""A gateway as it is run: uvicorn with our protocols on a port, on this very loop."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import uvicorn
from starlette.types import ASGIApp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from fitness_api.server_uvicorn import server_of


class Gateway:
    def __init__(self, server: uvicorn.Server, port: int) -> None:
        self.server = server
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, path: str = "/", headers: dict[str, str] | None = None) -> connect:
        return connect(
            f"ws://127.0.0.1:{self.port}{path}",
            additional_headers=headers,
            proxy=None,
            compression=None,
            ping_interval=None,
            close_timeout=5,
            open_timeout=30,
        )


@asynccontextmanager
async def gateway(app: ASGIApp, listener: socket.socket | None = None) -> AsyncIterator[Gateway]:
    """`listener` is bound, where its port has to be known before the application is built; it is closed at the end."""
    server = server_of(app)
    with listener or socket.socket() as bound:
        if bound.getsockname()[1] == 0:
            bound.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server._serve([bound]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        try:
            yield Gateway(server, bound.getsockname()[1])
        finally:
            server.should_exit = True
            await serving


async def closed(connection: ClientConnection) -> tuple[int | None, str | None]:
    """Read on until the connection is closed; return code and reason."""
    async with asyncio.timeout(20):
        with suppress(ConnectionClosed):
            while True:
                await connection.recv()
    return connection.close_code, connection.close_reason
