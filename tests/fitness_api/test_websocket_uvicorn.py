"""The bounds of a WebSocket, on real sockets."""

import asyncio
import base64
import logging
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from websockets.frames import Frame, Opcode

from fitness_api import websocket_uvicorn
from fitness_api.websocket_uvicorn import MAX_MESSAGE_BYTES
from tests.fitness_api.gateway import Gateway, closed, gateway

ENDED: list[dict[str, Any]] = []


async def echo(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})
        return
    await receive()
    if scope["path"] == "/faulty":
        raise ZeroDivisionError
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "close":
            await send({"type": "websocket.close", "code": 4400, "reason": "as you wish"})
        elif message.get("text") == "much":
            with suppress(OSError):
                while True:
                    await send({"type": "websocket.send", "bytes": bytes(10_000)})
        else:
            await send({"type": "websocket.send", **{k: message[k] for k in ("text", "bytes") if k in message}})
    ENDED.append(message)


@pytest.fixture(scope="module")
async def served() -> AsyncIterator[Gateway]:
    async with gateway(echo) as one:
        yield one


def connections(served: Gateway) -> set[Any]:
    return set(served.server.server_state.connections)


async def gone(served: Gateway) -> None:
    async with asyncio.timeout(20):
        while served.server.server_state.connections or served.server.server_state.tasks:
            await asyncio.sleep(0.01)


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nhost: here\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: " + base64.b64encode(bytes(16)) + b"\r\n"
)


@asynccontextmanager
async def raw(served: Gateway, **options: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """An upgraded connection that does only what it is told."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, **options)
    try:
        writer.write(HANDSHAKE + b"\r\n")
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin=fin).serialize(mask=True)


async def close_code(reader: asyncio.StreamReader) -> int:
    """Read up to the close frame; return its code."""
    async with asyncio.timeout(20):
        while True:
            first, length = await reader.readexactly(2)
            if length == 126:
                [length] = struct.unpack("!H", await reader.readexactly(2))
            data = await reader.readexactly(length)
            if first & 15 == Opcode.CLOSE:
                code: int = struct.unpack("!H", data[:2])[0]
                return code


async def test_messages_come_whole_whatever_their_fragments(served: Gateway) -> None:
    async with served.connect() as client:
        for message in ("a", "ü" * (MAX_MESSAGE_BYTES // 2), b"\x00", ["a", "b", "c"]):
            await client.send(message)
            assert await client.recv() == ("".join(message) if isinstance(message, list) else message)
        await (await client.ping())
    await gone(served)
    assert ENDED.pop()["code"] == 1000


async def test_no_extension_is_agreed_on(served: Gateway) -> None:
    async with served.connect() as client:
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers


async def test_a_connection_that_served_requests_may_be_upgraded_and_stays(
    served: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.server.config, "timeout_keep_alive", 0.1)
    monkeypatch.setattr("fitness_api.protocol_uvicorn.HEAD_WITHIN_S", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
    assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    writer.write(HANDSHAKE + b"\r\n")
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(0.5)
    writer.write(frame(Opcode.TEXT, b"hello"))
    assert await reader.readexactly(7) == b"\x81\x05hello"
    writer.close()
    await gone(served)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HANDSHAKE + b"content-length: 2\r\n\r\nab", b" 200 "),
        (HANDSHAKE.replace(b"GET", b"POST") + b"content-length: 0\r\n\r\n", b" 200 "),
        (HANDSHAKE.replace(b"13", b"12") + b"\r\n", b" 400 "),
        (HANDSHAKE.replace(b"sec-websocket-key", b"x") + b"\r\n", b" 400 "),
        (HANDSHAKE + b"authorization: " + b"a" * 9000 + b"\r\n\r\n", b" 431 "),
        (HANDSHAKE + b"a: b\r\n" * 200 + b"\r\n", b" 431 "),
        (HANDSHAKE.replace(b"/ ", b"/" + b"a" * 9000 + b" ", 1) + b"\r\n", b" 414 "),
        (HANDSHAKE.replace(b"/ ", b"/faulty ", 1) + b"\r\n", b" 500 "),
    ],
    ids=["a body", "a POST", "version", "no key", "a long header", "many headers", "a long path", "a fault"],
)
async def test_what_is_no_handshake_is_answered_and_ends(
    served: Gateway, head: bytes, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "fitness_api.websocket")
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(head)
    answer = await asyncio.wait_for(reader.read(), 10)
    assert status in answer.split(b"\r\n")[0]
    writer.close()
    await gone(served)


async def test_an_upgrade_waits_for_no_earlier_request(served: Gateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n" + HANDSHAKE + b"\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.count(b"HTTP/1.1 200 ") == 2
    writer.close()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(Opcode.TEXT, bytes(MAX_MESSAGE_BYTES + 1)), 4413),
        (frame(Opcode.TEXT, bytes(MAX_MESSAGE_BYTES), fin=False) + frame(Opcode.CONT, b"a"), 4413),
        (b"\x81\xff" + struct.pack("!Q", 1 << 62) + bytes(4), 4413),
        (frame(Opcode.TEXT, b"\xff\xfe"), 4400),
        (frame(Opcode.CONT, b"a"), 4400),
        (frame(Opcode.TEXT, b"a", fin=False) * 2, 4400),
        (b"\xf1\x80" + bytes(4), 4400),
        (b"\x81\x01a", 4400),
        (b"\x89\xfe\x00\x80" + bytes(132), 4400),
        (frame(Opcode.PING) * 10_000, 4429),
        (frame(Opcode.PONG) * 10_000, 4429),
        (frame(Opcode.TEXT, b"a") * 10_000, 4429),
        (frame(Opcode.TEXT, b"", fin=False) + frame(Opcode.CONT, b"", fin=False) * 10_000, 4429),
        (frame(Opcode.TEXT, b"a", fin=False) + frame(Opcode.CONT, b"a", fin=False) * 10_000, 4429),
    ],
    ids=["large", "large in two", "a length beyond", "not UTF-8", "a rest of nothing", "two beginnings", "reserved bits", "unmasked",
         "a large ping", "pings", "pongs", "messages", "empty fragments", "small fragments"],
)  # fmt: skip
async def test_hostile_frames_end_the_connection_by_their_code(
    served: Gateway, sent: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw(served) as (reader, writer):
        writer.write(sent)
        assert await close_code(reader) == code
        writer.close()
    await gone(served)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_what_follows_a_close_is_bounded(served: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_uvicorn, "LINGER_S", 60)
    async with raw(served) as (_, writer):
        with suppress(ConnectionError):
            writer.write(b"\x81\x01a")
            for _ in range(100):
                writer.write(bytes(100_000))
                await writer.drain()
        await gone(served)


async def test_slow_and_steady_pings_are_answered(served: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_uvicorn, "FRAMES_BURST", 3)
    monkeypatch.setattr(websocket_uvicorn, "FRAMES_A_S", 50.0)
    async with served.connect() as client:
        for _ in range(10):
            await asyncio.sleep(0.05)
            await (await client.ping())


async def test_the_app_closes_by_its_own_code(served: Gateway) -> None:
    async with served.connect() as client:
        await client.send("close")
        assert await closed(client) == (4400, "as you wish")
    await gone(served)


async def test_a_peer_that_leaves_a_close_unanswered_is_let_go(
    served: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_uvicorn, "LINGER_S", 0.2)
    async with raw(served) as (reader, writer):
        writer.write(frame(Opcode.TEXT, b"close"))
        assert await close_code(reader) == 4400
        await gone(served)


async def test_who_is_silent_is_pinged_and_closed(served: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_uvicorn, "PING_EVERY_S", 0.1)
    monkeypatch.setattr(websocket_uvicorn, "SILENT_S", 0.5)
    monkeypatch.setattr(websocket_uvicorn, "LINGER_S", 0.2)
    async with served.connect() as client, raw(served) as (reader, _):
        assert await reader.readexactly(2) == b"\x89\x00"
        assert await close_code(reader) == 4408
        await client.send("a")  # whose pongs kept it
        assert await client.recv() == "a"
    await gone(served)


@pytest.mark.parametrize("ping", [0.1, 60.0], ids=["silent", "stalled"])
async def test_a_peer_that_reads_nothing_is_given_up(
    served: Gateway, monkeypatch: pytest.MonkeyPatch, ping: float
) -> None:
    monkeypatch.setattr(websocket_uvicorn, "PING_EVERY_S", ping)
    monkeypatch.setattr(websocket_uvicorn, "SILENT_S", 0.5)
    monkeypatch.setattr(websocket_uvicorn, "STALLED_S", 60.0 if ping < 1 else 0.5)
    monkeypatch.setattr(websocket_uvicorn, "LINGER_S", 0.2)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", served.port))
        client.sendall(HANDSHAKE + b"\r\n" + b"")
        client.setblocking(False)
        await asyncio.sleep(0.1)
        client.send(frame(Opcode.TEXT, b"much"))
        await asyncio.sleep(0.1)
        assert connections(served)
        await gone(served)


async def test_a_peer_that_vanishes_leaves_nothing(served: Gateway) -> None:
    async with raw(served) as (_, writer):
        writer.transport.abort()
        await gone(served)


async def test_a_server_that_stops_says_when_to_come_back() -> None:
    async with gateway(echo) as other, other.connect() as client, raw(other) as (reader, _):
        other.server.should_exit = True
        code, reason = await closed(client)
        assert code == 4503
        assert reason is not None
        name, _, after_ms = reason.partition("=")
        assert name == "after_ms"
        assert 0 <= int(after_ms) < websocket_uvicorn.COME_BACK_WITHIN_MS
        assert await close_code(reader) == 4503


async def test_a_handshake_that_nobody_answered_is_refused_when_the_server_stops() -> None:
    async def waits(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await echo(scope, receive, send)
            return
        await receive()
        await receive()

    async with gateway(waits) as other:
        reader, writer = await asyncio.open_connection("127.0.0.1", other.port)
        writer.write(HANDSHAKE + b"\r\n")
        while not other.server.server_state.tasks:
            await asyncio.sleep(0.01)
        other.server.should_exit = True
        assert b" 503 " in await reader.readline()
        writer.close()


def test_uvicorn_is_of_the_version_that_was_read() -> None:
    assert uvicorn.__version__.startswith("0.54.")
