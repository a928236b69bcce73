"""uvicorn's HTTP/1.1 over httptools, with the bounds that it lacks: the size of a request's head, the time of head, body and
answer, and how many requests may wait on one connection.

Without them one connection can send a header without end, or none at all, for as long as it likes, or have 10,000 requests of 26
bytes wait in memory at 10 KB each. (h11, in pure Python, bounds the size itself.)
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# As h11's default and nginx's `large_client_header_buffers` (4 x 8 KiB), with room for long cookies of proxies.
MAX_HEAD_BYTES = 64 << 10
# What a header costs in memory beside its bytes (RFC 9113 section 10.5.1 counts the same).
HEADER_OVERHEAD_BYTES = 32
# A head is one packet or a few; Apache's RequestReadTimeout gives it 20 s, nginx's client_header_timeout 60 s.
HEAD_WITHIN_S = 20.0
# A body brings so much in each window, or its connection ends: 500 bytes a second, Apache's MinRate. A lost mobile network
# comes back within a window, and the slowest one that is left (GPRS) gives eight times that.
BODY_WINDOW_S = 30.0
MIN_BODY_BYTES_A_WINDOW = 15_000
# A client that takes nothing at all of an answer for so long is gone. Above nginx's send_timeout (60 s), because what the
# kernel holds may take a slow network longer than that.
ANSWER_STALLED_S = 120.0
# Requests that wait for their predecessor's answer. Few clients send even one so.
MAX_PIPELINED = 32


class HeadTooLarge(Exception):
    """Raised inside the parser, which ends the connection by a 400."""


class TooManyPipelined(Exception):
    """As HeadTooLarge."""


class BoundedHttpProtocol(HttpToolsProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._unread_bytes = 0
        self._progressed = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None
        self._body_bytes = 0
        self._body_was_held = False
        self._answer_timer: asyncio.TimerHandle | None = None
        self._unsent_bytes = 0
        self._upgrades = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._progressed = False
        super().data_received(data)
        if self._upgrades:
            return
        # The parser keeps what belongs to an unfinished header (or trailer, or chunk extension) until it is whole.
        self._unread_bytes = 0 if self._progressed else self._unread_bytes + len(data)
        if self._unread_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too large.")
        # uvicorn stops its timer of idle connections at every byte, also at those that begin no request: an empty line, or the
        # end of a body that was refused before it came.
        if self._is_idle() and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        _stop(self._answer_timer)
        self._answer_timer = None
        super().resume_writing()

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        super().on_message_begin()
        self._await_head()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + HEADER_OVERHEAD_BYTES)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._progressed = True
        _stop(self._head_timer)
        self._head_timer = None
        if len(self.pipeline) >= MAX_PIPELINED:
            raise TooManyPipelined
        self._upgrades = self.parser.should_upgrade() and self._is_handshake()
        super().on_headers_complete()
        if self._upgrades:
            # From here on this object hears nothing, and must do nothing.
            self._stop_timers()
            return
        if self.parser.should_upgrade():
            # The parser takes what follows for the other protocol's, and finds no second request in it.
            self.cycle.keep_alive = False
        self._await_body()

    def on_body(self, body: bytes) -> None:
        self._progressed = True
        self._body_bytes += len(body)
        super().on_body(body)
        self._body_was_held = self._body_was_held or self.flow.read_paused

    def on_message_complete(self) -> None:
        self._progressed = True
        _stop(self._body_timer)
        self._body_timer = None
        super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: whoever asks for an upgrade is answered without one, and any stranger may ask."""

    def _should_upgrade(self) -> bool:
        return self._upgrades

    def _is_handshake(self) -> bool:
        """Whether this opens a WebSocket: a GET without a body, for which no earlier request of its connection has to wait."""
        return (
            super()._should_upgrade()
            and self.parser.get_method() == b"GET"
            and self.parser.get_http_version() == "1.1"
            and not any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers)
            and (self.cycle is None or self.cycle.response_complete)
        )

    def _count(self, size_bytes: int) -> None:
        self._head_bytes += size_bytes
        if self._head_bytes > MAX_HEAD_BYTES:
            raise HeadTooLarge

    def _is_idle(self) -> bool:
        """Whether neither a request is awaited, or being read, nor an answer."""
        return (
            not self.transport.is_closing()
            and self._head_timer is None
            and self._body_timer is None
            and self.cycle is not None
            and self.cycle.response_complete
        )

    def _stop_timers(self) -> None:
        _stop(self._head_timer)
        self._head_timer = None
        _stop(self._body_timer)
        self._body_timer = None
        _stop(self._answer_timer)
        self._answer_timer = None

    def _await_head(self) -> None:
        _stop(self._head_timer)
        self._head_timer = self.loop.call_later(HEAD_WITHIN_S, self._head_overdue)

    def _head_overdue(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # A pipelined request's head, which is not read on before its predecessor is answered.
            self._await_head()
        elif not self.transport.is_closing():
            self.transport.close()

    def _await_body(self) -> None:
        _stop(self._body_timer)
        self._body_bytes = 0
        self._body_was_held = self.flow.read_paused
        self._body_timer = self.loop.call_later(BODY_WINDOW_S, self._body_due)

    def _body_due(self) -> None:
        # Time in which we did not read is ours. What comes after the answer is read only so that the answer is not lost.
        came = self._body_was_held or self.flow.read_paused or self._body_bytes >= MIN_BODY_BYTES_A_WINDOW
        if came and not self.cycle.response_complete:
            self._await_body()
        elif not self.transport.is_closing():
            self.transport.close()

    def _await_reader(self) -> None:
        _stop(self._answer_timer)
        self._unsent_bytes = self.transport.get_write_buffer_size()
        self._answer_timer = self.loop.call_later(ANSWER_STALLED_S, self._answer_due)

    def _answer_due(self) -> None:
        if self.transport.get_write_buffer_size() < self._unsent_bytes:
            self._await_reader()
        else:
            self.transport.abort()


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
