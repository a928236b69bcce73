import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
import uvicorn

from fitness_api import protocol_uvicorn
from fitness_api.protocol_uvicorn import MAX_HEAD_BYTES, BoundedHttpProtocol


async def echo_length(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/later":
        await asyncio.sleep(0.3)
    length, more = 0, scope["path"] != "/unread"
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send(
        {"type": "http.response.body", "body": str(length).encode() if scope["path"] != "/large" else bytes(50_000_000)}
    )


@pytest.fixture(scope="module")
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(
        echo_length,
        http=BoundedHttpProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=1,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server._serve([listener]))
        yield listener.getsockname()[1]
        server.should_exit = True
        await serving


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def endless(port: int, start: bytes, more: bytes) -> bytes:
    """Sends `start`, then `more` until the server ends the connection; returns its answer, if it was not lost.

    A server that closes while there is more to read resets the connection, and may so overtake its own answer.
    """
    async with connected(port) as (reader, writer):
        try:
            writer.write(start)
            for _ in range(10 * MAX_HEAD_BYTES // len(more)):
                writer.write(more)
                await writer.drain()
                await asyncio.sleep(0)  # The server runs on this very loop.
            pytest.fail("It reads on and on.")
        except ConnectionError:
            pass
        try:
            return await reader.read()
        except ConnectionError:
            return b""


LINE = b"POST / HTTP/1.1\r\nhost: here\r\n"


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (LINE + b"x: ", b"a" * 1024),
        (LINE, b"x: y\r\n" * 100),
        (b"GET /", b"a" * 1024),
        (LINE + b"transfer-encoding: chunked\r\n\r\n1;", b"x" * 1024),
    ],
    ids=["header value", "headers", "path", "chunk extension"],
)
async def test_a_head_without_end_is_refused(port: int, start: bytes, more: bytes) -> None:
    answer = await endless(port, start, more)
    assert answer.startswith(b"HTTP/1.1 400 ") or answer == b""


async def test_a_head_that_comes_whole_is_bounded_too(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(LINE + b"x: " + b"a" * (MAX_HEAD_BYTES + 1) + b"\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")


async def test_bodies_are_not_heads(port: int) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"b" * 10_000

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        for _ in range(3):  # One connection: nothing adds up over its requests.
            answer = await client.post("/", content=b"a" * 2_000_000, headers={"x": "y" * 30_000})
            assert answer.text == "2000000"
            answer = await client.post("/", content=chunks())
            assert answer.text == "500000"


async def test_a_head_that_takes_too_long_ends_the_connection(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_uvicorn, "HEAD_WITHIN_S", 0.05)
    for start in (b"", LINE):
        async with connected(port) as (reader, writer):
            writer.write(start)
            assert await reader.read() == b""


async def test_a_body_may_take_longer_than_a_head(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_uvicorn, "HEAD_WITHIN_S", 0.05)
    async with connected(port) as (reader, writer):
        writer.write(LINE + b"content-length: 2\r\n\r\na")
        await asyncio.sleep(0.2)
        writer.write(b"b")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")


async def test_a_body_that_comes_too_slowly_ends_the_connection(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_uvicorn, "BODY_WINDOW_S", 0.1)
    async with connected(port) as (reader, writer):
        writer.write(LINE + b"content-length: 1000\r\n\r\n")
        with suppress(ConnectionError):
            for _ in range(200):
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(0.01)
            pytest.fail("It waits on and on.")
        with suppress(ConnectionError):
            assert await reader.read() == b""


async def test_a_body_may_take_many_windows(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_uvicorn, "BODY_WINDOW_S", 0.2)
    monkeypatch.setattr(protocol_uvicorn, "MIN_BODY_BYTES_A_WINDOW", 2)
    async with connected(port) as (reader, writer):
        writer.write(LINE + b"content-length: 50\r\n\r\n")
        for _ in range(50):
            writer.write(b"a")
            await asyncio.sleep(0.02)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")


async def test_a_body_that_is_not_read_yet_is_not_slow(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_uvicorn, "BODY_WINDOW_S", 0.05)
    async with connected(port) as (reader, writer):
        writer.write(b"POST /later HTTP/1.1\r\nhost: here\r\ncontent-length: 2000000\r\n\r\n" + b"a" * 2_000_000)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")


async def test_a_body_that_goes_on_after_its_answer_ends_the_connection(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol_uvicorn, "BODY_WINDOW_S", 0.1)
    monkeypatch.setattr(protocol_uvicorn, "MIN_BODY_BYTES_A_WINDOW", 0)
    async with connected(port) as (reader, writer):
        writer.write(b"POST /unread HTTP/1.1\r\nhost: here\r\ncontent-length: 1000\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        await asyncio.wait_for(reader.read(), 5)


@pytest.mark.parametrize(
    ("request_head", "after"),
    [(LINE + b"content-length: 0\r\n\r\n", b"\r\n"), (LINE.replace(b"/", b"/unread", 1) + b"content-length: 1\r\n\r\n", b"a")],
    ids=["an empty line", "the end of a body that nobody read"],
)  # fmt: skip
async def test_bytes_without_a_request_do_not_keep_a_connection(port: int, request_head: bytes, after: bytes) -> None:
    async with connected(port) as (reader, writer):
        writer.write(request_head)
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.1)
        writer.write(after)
        await asyncio.wait_for(reader.read(), 5)


async def test_requests_that_wait_on_one_connection_are_bounded(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write((LINE + b"content-length: 0\r\n\r\n") * protocol_uvicorn.MAX_PIPELINED)
        for _ in range(protocol_uvicorn.MAX_PIPELINED):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            await reader.readuntil(b"0\r\n\r\n")
        writer.write((LINE + b"content-length: 0\r\n\r\n") * (protocol_uvicorn.MAX_PIPELINED + 2))
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
async def test_an_upgrade_that_is_not_made_ends_with_its_answer_and_is_not_logged(
    port: int, protocol: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(port) as (reader, writer):
        writer.write(LINE + b"connection: upgrade\r\nupgrade: " + protocol + b"\r\ncontent-length: 2\r\n\r\nab")
        assert b"connection: close" in await asyncio.wait_for(reader.read(), 5)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_client_that_reads_nothing_is_given_up(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_uvicorn, "ANSWER_STALLED_S", 0.2)
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setblocking(False)
        client.send(b"POST /large HTTP/1.1\r\nhost: here\r\ncontent-length: 0\r\n\r\n")
        await asyncio.sleep(1.5)
        received = 0
        with suppress(ConnectionError):
            while piece := client.recv(1 << 20):
                received += len(piece)
                await asyncio.sleep(0)
        assert received < 50_000_000
