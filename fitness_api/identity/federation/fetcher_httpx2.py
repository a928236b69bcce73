"""What issuers publish, by httpx2: one pool of connections, and bounds on time and size."""

import asyncio
from typing import Final

import httpx2

from fitness_api.identity.federation.fetcher import FetchFailed

MAX_ANSWER_BYTES: Final = 256 * 1024  # metadata and keys have some 5 KB
TIMEOUT_S: Final = 5.0  # from the first byte sent to the last one read; somebody waits at a screen
MAX_CONNECTIONS: Final = 20

_HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}


class BoundedTransport(httpx2.AsyncBaseTransport):
    """Reads answers up to MAX_ANSWER_BYTES, within TIMEOUT_S, and outlives the clients that use it.

    A client of its own costs a TLS context, some 20 ms of the event loop each; so all share one.
    """

    def __init__(self) -> None:
        limits = httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS)
        self._transport = httpx2.AsyncHTTPTransport(limits=limits, trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                response = await self._transport.handle_async_request(request)
                try:
                    body = await self._read(response, request)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise httpx2.ReadTimeout("The answer took too long.", request=request) from None
        return httpx2.Response(response.status_code, headers=response.headers, content=body, request=request)

    async def aclose(self) -> None:
        """Nothing: a client closes its transport, and this one is everybody's."""

    async def close(self) -> None:
        await self._transport.aclose()

    @staticmethod
    async def _read(response: httpx2.Response, request: httpx2.Request) -> bytes:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise httpx2.DecodingError("A compressed answer was not asked for.", request=request)
        body = bytearray()
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        async for piece in response.stream:
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                raise httpx2.ReadError("The answer is too large.", request=request)
        return bytes(body)


class Httpx2Fetcher:
    def __init__(self, transport: BoundedTransport) -> None:
        self._transport = transport

    async def get(self, url: str) -> bytes:
        # Without a client: there is nothing to follow, and no cookie to keep.
        try:
            response = await self._transport.handle_async_request(httpx2.Request("GET", url, headers=_HEADERS))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise FetchFailed(f"{type(error).__name__}: {error}") from error
        if response.status_code != 200:
            raise FetchFailed(f"It answered {response.status_code}.")
        return response.content
