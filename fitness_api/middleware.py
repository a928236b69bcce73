"""What surrounds every request, as pure ASGI: its id, its line in the log, its headers, its compression.

The order, outermost first, is ClientAddress, RequestIds, AccessLog, SecurityHeaders, RateLimitHeaders, BodylessHead, Compression.
They stand outside Starlette, so that an answer to a fault, a 404 and a 405 pass through all of them too.
"""

import logging
import re
import sys
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import uuid4

from msgspec import json
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fitness_api.content_codings import Encoder, encode, encoder, negotiate
from fitness_api.limits.addresses import ForwardedHeader, Network, client_of

# Under this a coding saves less than its own header and the time it takes.
MIN_COMPRESSED_BYTES: Final = 512

# Where a path matched no route, so much of it is logged: enough to find a wrong client, too little to fill a disk.
MAX_LOGGED_PATH: Final = 120

_COMPRESSIBLE: Final = re.compile(
    rb"text/.+|application/(json|msgpack|xml|x-ndjson)|application/.+\+(json|xml)|image/svg\+xml"
)

# Ids of proxies and clients: UUIDs, ULIDs, base64, "1-67891233-abcdef". Nothing that could break a header or a log line.
_SANE_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{8,128}")

# Source: W3C Trace Context, section 3.2. Later versions may add fields; version ff and an all-zero id are invalid.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<more>-.*)?"
)


class RequestIdentity(NamedTuple):
    request_id: str
    trace_id: str | None


# For log lines written anywhere below a request. Lifespan state would be shared by all of them.
CURRENT: Final[ContextVar[RequestIdentity | None]] = ContextVar("fitness_api_request", default=None)


def trace_id(traceparent: str) -> str | None:
    parsed = _TRACEPARENT.fullmatch(traceparent.strip())
    if parsed is None or (parsed["version"] == "00" and parsed["more"]):
        return None
    return parsed["trace"]


class ClientAddress:
    """Puts the client's own address into `scope["client"]` where trusted proxies stand before us, and name it in `header`."""

    def __init__(self, app: ASGIApp, *, trusted: tuple[Network, ...], header: ForwardedHeader) -> None:
        self.app = app
        self._trusted = trusted
        self._header: ForwardedHeader = header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._trusted and scope["type"] != "lifespan" and (peer := scope.get("client")):
            named = Headers(scope=scope).getlist(self._header)
            if (address := client_of(peer[0], named, self._trusted, self._header)) != peer[0]:
                scope["client"] = (address, 0)
        await self.app(scope, receive, send)


class RequestIds:
    """Gives each request an id, its own if it is sane, in `scope["request_id"]`, in CURRENT and in X-Request-Id."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        sent = dict(reversed(scope["headers"]))  # of several with one name the first
        own = sent.get(b"x-request-id", b"").decode("latin-1")
        request_id = own if _SANE_ID.fullmatch(own) else str(uuid4())
        scope["request_id"] = request_id
        trace = trace_id(sent[b"traceparent"].decode("latin-1")) if b"traceparent" in sent else None
        token = CURRENT.set(RequestIdentity(request_id, trace))
        header = (b"x-request-id", request_id.encode("latin-1"))

        async def send_with_id(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.accept", "websocket.http.response.start"}:
                headers = message.get("headers", ())
                message["headers"] = [*(one for one in headers if one[0] != b"x-request-id"), header]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            CURRENT.reset(token)


class AccessLog:
    """Writes one record a request. Never a query string, a header or a body: tokens travel in all three.

    A fault whose answer was sent whole ends here, because the handler that answered has logged it. Any other goes on to
    the server, which closes the connection so that the client does not take a part for the whole.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._log = logging.getLogger("fitness_api.access")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        status: int | None = None
        bytes_in = bytes_out = 0
        complete = False

        async def count_in() -> Message:
            nonlocal bytes_in
            message = await receive()
            bytes_in += len(message.get("body") or message.get("bytes") or message.get("text") or b"")
            return message

        async def count_out(message: Message) -> None:
            nonlocal status, bytes_out, complete
            match message["type"]:
                case "http.response.start" | "websocket.http.response.start":
                    status = message["status"]
                case "websocket.accept":
                    status = 101
                case "websocket.close" if status is None:
                    status = 403
            bytes_out += len(message.get("body") or message.get("bytes") or message.get("text") or b"")
            await send(message)
            complete = complete or (message["type"] == "http.response.body" and not message.get("more_body", False))

        try:
            await self.app(scope, count_in, count_out)
        except Exception:
            if not complete:
                raise
        finally:
            route = getattr(scope.get("route"), "path", None)
            fields = {
                "method": scope["method"] if scope["type"] == "http" else "WEBSOCKET",
                "route": route,
                "status": status,
                "duration_ms": round((time.perf_counter() - begun) * 1000, 3),
                "bytes_in": bytes_in,
                "bytes_out": bytes_out,
                "client": scope["client"][0] if scope.get("client") else None,
            }
            if route is None:
                fields["path"] = scope["path"][:MAX_LOGGED_PATH]
            self._write(fields)

    def _write(self, fields: dict[str, Any]) -> None:
        """As `Logger.info` does, but for its search of the stack for who calls, which takes a third of its time."""
        if self._log.isEnabledFor(logging.INFO):
            words = (fields["method"], fields["route"] or "-", fields["status"])
            record = logging.LogRecord(self._log.name, logging.INFO, __file__, 0, "%s %s %s", words, None)
            record.fields = fields
            self._log.handle(record)


class SecurityHeaders:
    """Sets what a response has not set itself. An API's answers are data: nothing in them may run, load or be framed."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self.app = app
        headers = {
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
            "Referrer-Policy": "no-referrer",
            # A page elsewhere may not embed an answer; the API has no cookies, and browsers' own apps need CORS anyway.
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        if https:
            headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
        self._raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                # In lower case, as ASGI has them.
                set_already = {name for name, _ in headers}
                message["headers"] = headers + [header for header in self._raw if header[0] not in set_already]
            await send(message)

        await self.app(scope, receive, send_with_headers)


class RateLimitHeaders:
    """Says of every answer, also a refusal, what its request was counted against: `state["limits"]` has it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if (
                message["type"] == "http.response.start"
                and (limits := scope.get("state", {}).get("limits")) is not None
            ):
                MutableHeaders(scope=message).update(limits.headers())
            await send(message)

        await self.app(scope, receive, send_with_headers)


class BodylessHead:
    """HEAD is GET without the body, with GET's Content-Length (RFC 9110 section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self.app(scope, receive, send_without_body)


class Compression:
    """Encodes answers that are text or msgpack, as Accept-Encoding likes best; a stream is flushed piece by piece.

    Our own and not starlette-compress, which holds JSON streams back until its window is full, keeps one set of media
    types for the whole process, and leaves a strong ETag on bytes that it changed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = Headers(scope=scope)
        coding = negotiate(",".join(sent.getlist("accept-encoding")))
        start: Message | None = None
        stream: Encoder | None = None

        async def send_encoded(message: Message) -> None:
            nonlocal start, stream
            if message["type"] == "http.response.start":
                _name_the_tag_held(message, sent)
                if _may_be_encoded(message):
                    headers = MutableHeaders(scope=message)
                    if "accept-encoding" not in headers.get("vary", "").lower():
                        headers.add_vary_header("Accept-Encoding")
                    if coding is not None:
                        # Held until the first piece tells whether the answer is worth it.
                        start = message
                        return
            elif message["type"] == "http.response.body" and (start is not None or stream is not None):
                body, more = message.get("body", b""), message.get("more_body", False)
                if start is not None:
                    assert coding is not None
                    if more or len(body) >= MIN_COMPRESSED_BYTES:
                        headers = MutableHeaders(scope=start)
                        headers["Content-Encoding"] = coding
                        if tag := headers.get("etag"):
                            # The bytes are no longer those that the strong tag stands for (RFC 9110 section 8.8.1).
                            headers["ETag"] = tag if tag.startswith("W/") else f"W/{tag}"
                        if more:
                            stream = encoder(coding)
                            del headers["Content-Length"]
                        else:
                            body = encode(coding, body)
                            headers["Content-Length"] = str(len(body))
                    started, start = start, None
                    await send(started)
                if stream is not None:
                    body = stream.feed(body) if body else b""
                    if not more:
                        body += stream.finish()
                        stream = None
                message = {"type": "http.response.body", "body": body, "more_body": more}
            await send(message)

        await self.app(scope, receive, send_encoded)


def _name_the_tag_held(message: Message, sent: Headers) -> None:
    """A cache may not freshen the encoded answer that it holds by a strong tag (RFC 9111 section 4.3.4)."""
    if message["status"] != 304:
        return
    headers = MutableHeaders(scope=message)
    if (tag := headers.get("etag")) is not None:
        weak = f"W/{tag}"
        if any(weak in held for held in sent.getlist("if-none-match")):
            headers["ETag"] = weak


def _may_be_encoded(message: Message) -> bool:
    headers = dict(message.get("headers", ()))  # names in lower case, as ASGI has them
    if message["status"] < 200 or message["status"] in {204, 205, 206, 304} or b"content-encoding" in headers:
        return False
    if b"no-transform" in headers.get(b"cache-control", b""):
        return False
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return _COMPRESSIBLE.fullmatch(media_type) is not None


class JSONFormatter(logging.Formatter):
    """One line of JSON a record: instant, level, logger, message, the request it belongs to, and its own fields."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, Any] = {
            "time": at,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (current := CURRENT.get()) is not None:
            line["request_id"] = current.request_id
            if current.trace_id is not None:
                line["trace_id"] = current.trace_id
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        try:
            return json.encode(line).decode()
        except UnicodeEncodeError:
            # A path may hold what is no text; a log line always is.
            return json.encode(_text(line)).decode()


def _text(line: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        for name, value in line.items()
    }


def configure_logging(level: int = logging.INFO) -> None:
    """Write every logger's records to standard output as JSON lines, uvicorn's too; its access log gives way to ours."""
    # What no line of ours shows is not looked up for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JSONFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
    access = logging.getLogger("uvicorn.access")
    access.handlers = []
    access.propagate = False
    # Drivers tell of every command at DEBUG and of every reconnection at INFO; what matters of it reaches us as errors.
    for name in ("pymongo", "redis", "httpx", "httpcore", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
