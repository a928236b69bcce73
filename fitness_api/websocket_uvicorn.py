"""uvicorn's WebSockets over the sans-I/O `websockets`, with the bounds that it lacks and the close codes that clients go by.

As it comes, a peer that stops reading is never let go: after an unanswered ping the transport is closed, which waits for what was
written to be read. A peer may send pings, or fragments of a byte, as fast as it can; and each refused upgrade or wrong byte is logged.
"""

import asyncio
import logging
import random
import socket
from typing import Any, Final, cast

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from fitness_api.close_codes import CloseCode

# The largest message is a new access token, of at most 8 KiB.
MAX_MESSAGE_BYTES: Final = 16 * 1024
# Frames of any kind, counted as a bucket that holds a burst and refills: ten times what a talkative client sends.
FRAMES_BURST: Final = 60
FRAMES_A_S: Final = 10.0
# Some 300 of the smallest frames are parsed, 3 ms, before anybody looks whether they are too many.
SLICE_BYTES: Final = 2 * 1024

PING_EVERY_S: Final = 20.0
SILENT_S: Final = 60.0
# After the close frame: long enough for an answer from the other side of the world, then nothing is owed any more.
LINGER_S: Final = 2.0
# What an ended connection may still bring, and be thrown away, so that the close frame is not lost to a reset.
MAX_DISCARDED_BYTES: Final = 1024 * 1024
# Messages are a few bytes; whoever leaves so much of them unread, for so long, does not read.
MAX_UNSENT_BYTES: Final = 16 * 1024
STALLED_S: Final = 10.0
# Linux ends a connection itself whose peer acknowledges nothing for so long.
TCP_USER_TIMEOUT_MS: Final = 30_000
# All of a process's sockets end at once; they come back to the others over this time.
COME_BACK_WITHIN_MS: Final = 10_000

# Not uvicorn's, which writes each upgrade with its query string, and each stranger's mistake as an error of ours.
_log: Final = logging.getLogger("fitness_api.websocket")
_log.setLevel(logging.WARNING)

_OURS: Final = {1002: CloseCode.MALFORMED, 1007: CloseCode.MALFORMED, 1009: CloseCode.TOO_LARGE}


class _Frames(ServerProtocol):
    def fail(self, code: int, reason: str = "") -> None:
        super().fail(_OURS.get(code, code), reason)


class BoundedWebSocketProtocol(WebSocketsSansIOProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _log
        # No extension: compression takes 40 KB a connection, and saves nothing on messages of 20 bytes.
        self.conn = _Frames(max_size=MAX_MESSAGE_BYTES, logger=_log)
        self._heard_at_s = 0.0
        self._frames_left = float(FRAMES_BURST)
        self._refilled_at_s = self.loop.time()
        self._is_over = False
        self._discarded_bytes = 0
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=MAX_UNSENT_BYTES)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family in {socket.AF_INET, socket.AF_INET6}:
            option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux only
            if option is not None:
                peer.setsockopt(socket.IPPROTO_TCP, option, TCP_USER_TIMEOUT_MS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        self._stop_stall_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_stall_timer()
        self._stall_timer = self.loop.call_later(STALLED_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_stall_timer()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        self._heard_at_s = self.loop.time()
        for start in range(0, len(data), SLICE_BYTES):
            if self._is_over:
                self._discard(len(data) - start)
                return
            super().data_received(data[start : start + SLICE_BYTES])
        if not self.handshake_initiated and not self._is_over:
            # The head, which came whole, was no handshake; the library has its answer ready, or none.
            self.transport.write(b"".join(self.conn.data_to_send()))
            self._is_over = True
            self.transport.close()
            self._abort_later()

    def handle_events(self) -> None:
        for event in self.conn.events_received():
            if isinstance(event, Request):
                self.handle_connect(event)
                if self.close_sent:
                    self._abort_later()
                continue
            if self._is_over:
                return
            if not self._takes_frame():
                self._fail(CloseCode.BEYOND_LIMITS, "too many frames")
                return
            self._handle_frame(cast(Frame, event))

    def _handle_frame(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.TEXT:
                self.handle_text(frame)
            case Opcode.BINARY:
                self.handle_bytes(frame)
            case Opcode.CONT:
                self.handle_cont(frame)
            case Opcode.PING:
                self.handle_ping()
            case Opcode.PONG:
                pass  # it was heard, whichever ping it answers
            case Opcode.CLOSE:
                self.handle_close(frame)
                self._is_over = True
                self._abort_later()

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self._fail(CloseCode.MALFORMED, "not UTF-8")
                return
        super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        # The library has failed the connection, by `fail` above.
        sent = self.conn.close_sent
        self._finish(sent.code if sent else 1006, sent.reason if sent else "")

    def _takes_frame(self) -> bool:
        now_s = self.loop.time()
        refill = (now_s - self._refilled_at_s) * FRAMES_A_S
        self._frames_left = min(float(FRAMES_BURST), self._frames_left + refill) - 1
        self._refilled_at_s = now_s
        return self._frames_left >= 0

    def start_keepalive(self) -> None:
        self._heard_at_s = self.loop.time()
        self.ping_timer = self.loop.call_later(PING_EVERY_S, self.send_keepalive_ping)

    def send_keepalive_ping(self) -> None:
        self.ping_timer = None
        if self.close_sent or self.transport.is_closing():
            return
        if self.loop.time() - self._heard_at_s >= SILENT_S:
            self._fail(CloseCode.SILENT, "no frame or pong")
            return
        self.conn.send_ping(b"")
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.ping_timer = self.loop.call_later(PING_EVERY_S, self.send_keepalive_ping)

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "websocket.close" and self.handshake_complete:
            # At once, also where the peer reads nothing.
            self._close(message.get("code", 1000), message.get("reason") or "")
        elif message["type"] == "websocket.send" and self.close_sent:
            # We closed it, and the application does not know yet.
            raise ClientDisconnected
        else:
            await super().send(message)
            if self.close_sent:
                self._abort_later()

    def shutdown(self) -> None:
        if self.handshake_complete:
            after_ms = random.randrange(COME_BACK_WITHIN_MS)  # noqa: S311 it spreads, and hides nothing
            self._close(CloseCode.DRAINING, f"after_ms={after_ms}")
        else:
            self.conn.send_response(self.conn.reject(503, ""))
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.disconnected = True
            self.transport.close()
        self._abort_later()

    def _close(self, code: int, reason: str) -> None:
        """Begin the closing handshake, which the peer ends, or time."""
        if self.close_sent or self.transport.is_closing() or self.conn.state is not State.OPEN:
            return
        self.conn.send_close(code, reason)
        self._end(code, reason)

    def _fail(self, code: int, reason: str) -> None:
        """What comes from this peer is not looked at any more. Source: RFC 6455 section 7.1.7."""
        self.conn.fail(code, reason)
        self._finish(code, reason)

    def _finish(self, code: int, reason: str) -> None:
        self._is_over = True
        self._end(code, reason)

    def _end(self, code: int, reason: str) -> None:
        self.stop_keepalive()
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self._abort_later()

    def _discard(self, size_bytes: int) -> None:
        self._discarded_bytes += size_bytes
        if self._discarded_bytes > MAX_DISCARDED_BYTES:
            self.transport.abort()

    def _abort_later(self) -> None:
        # While it is set, nothing else closes the transport before the peer does.
        if self.close_timer is None and not self.disconnected:
            self.close_timer = self.loop.call_later(LINGER_S, self.transport.abort)

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
