"""Runs an ASGI application as a server does, its lifespan included, without a socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    state: dict[str, Any] = {}
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    lifespan: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}

    async def live() -> None:
        await app(lifespan, to_app.get, from_app.put)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(live())
        to_app.put_nowait({"type": "lifespan.startup"})
        assert (await from_app.get())["type"] == "lifespan.startup.complete"

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": state.copy()}, receive, send)

        transport = httpx.ASGITransport(with_state, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
            yield client
        to_app.put_nowait({"type": "lifespan.shutdown"})
        assert (await from_app.get())["type"] == "lifespan.shutdown.complete"
