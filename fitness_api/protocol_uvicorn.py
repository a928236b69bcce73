"""uvicorn's HTTP/1.1 over httptools, with the bounds that it lacks: the size of a request's head, and its time.

Without them one connection can send a header without end, or none at all, for as long as it likes. (h11, in pure Python, bounds
the size itself.)
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


class HeadTooLarge(Exception):
    """Raised inside the parser, which ends the connection by a 400."""


class BoundedHttpProtocol(HttpToolsProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._unread_bytes = 0
        self._progressed = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._progressed = False
        super().data_received(data)
        # The parser keeps what belongs to an unfinished header (or trailer, or chunk extension) until it is whole.
        self._unread_bytes = 0 if self._progressed else self._unread_bytes + len(data)
        if self._unread_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too large.")

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
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._progressed = True
        super().on_message_complete()

    def _count(self, size_bytes: int) -> None:
        self._head_bytes += size_bytes
        if self._head_bytes > MAX_HEAD_BYTES:
            raise HeadTooLarge

    def _await_head(self) -> None:
        self._stop_timer()
        self._head_timer = self.loop.call_later(HEAD_WITHIN_S, self._head_overdue)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_overdue(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # A pipelined request's head, which is not read on before its predecessor is answered.
            self._await_head()
        elif not self.transport.is_closing():
            self.transport.close()
