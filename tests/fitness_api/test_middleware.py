"""Middleware, each around a small ASGI app: ids, log lines, headers, HEAD, compression."""

import gzip
import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

import brotli
import httpx
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fitness_api.content_codings import CODINGS, BoundedDecoder, Coding
from fitness_api.middleware import (
    CURRENT,
    MIN_COMPRESSED_BYTES,
    AccessLog,
    BodylessHead,
    Compression,
    JSONFormatter,
    RequestIds,
    SecurityHeaders,
    configure_logging,
    trace_id,
)

LONG = "a heart beats " * 200


async def get(
    app: ASGIApp, headers: Mapping[str, str] | None = None, *, method: str = "GET", url: str = "/"
) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        # httpx asks for compression by itself; here only what a test asks for counts.
        return await client.request(method, url, headers={"Accept-Encoding": "identity", **(headers or {})})


async def messages(app: ASGIApp, scope: Mapping[str, Any]) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "http", "method": "GET", "path": "/", "headers": [], **scope}, receive, send)
    return sent


async def test_a_request_without_an_id_gets_one() -> None:
    app = RequestIds(PlainTextResponse("hi"))
    first, second = await get(app), await get(app)
    assert len(first.headers["x-request-id"]) == 36
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


@pytest.mark.parametrize("own", ["01HZX4T7Q0ABCDEF", "a" * 128, "1-67891233-abcdef012345678912345678"])
async def test_a_sane_id_is_kept(own: str) -> None:
    assert (await get(RequestIds(PlainTextResponse("hi")), {"X-Request-Id": own})).headers["x-request-id"] == own


@pytest.mark.parametrize("own", ["", "short", "a" * 129, 'quote"quote"', "white space", "<script>alert"])
async def test_any_other_id_is_replaced(own: str) -> None:
    assert (await get(RequestIds(PlainTextResponse("hi")), {"X-Request-Id": own})).headers["x-request-id"] != own


async def test_the_id_is_known_below_and_forgotten_after() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        current = CURRENT.get()
        assert current is not None
        await PlainTextResponse(f"{scope['request_id'] == current.request_id} {current.trace_id}")(scope, receive, send)

    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await get(RequestIds(app), {"traceparent": parent})
    assert answer.text == "True 0af7651916cd43dd8448eb211c80319c"
    assert CURRENT.get() is None


@pytest.mark.parametrize(
    ("traceparent", "expected"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", "0af7651916cd43dd8448eb211c80319c"),
        ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more", "0af7651916cd43dd8448eb211c80319c"),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more", None),
        ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", None),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-00", None),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-00", None),
        ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-00", None),
        ("", None),
    ],
)
def test_traceparent_is_read_as_its_specification_says(traceparent: str, expected: str | None) -> None:
    assert trace_id(traceparent) == expected


@pytest.fixture
def access(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "fitness_api.access")
    return caplog


def logged(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    (record,) = [record for record in caplog.records if record.name == "fitness_api.access"]
    line: dict[str, Any] = json.loads(JSONFormatter().format(record))
    return line


async def test_one_line_tells_of_a_request_and_nothing_secret(access: pytest.LogCaptureFixture) -> None:
    app = AccessLog(PlainTextResponse("hello"))
    await get(app, {"Authorization": "Bearer hunter2"}, url="/over/there?ticket=hunter2")
    line = logged(access)
    assert {name: line[name] for name in ("method", "status", "bytes_out", "path")} == {
        "method": "GET",
        "status": 200,
        "bytes_out": 5,
        "path": "/over/there",
    }
    assert line["duration_ms"] >= 0
    assert "hunter2" not in json.dumps(line)


async def test_a_fault_whose_answer_is_whole_ends_here(access: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("sorry", status_code=500)(scope, receive, send)
        raise ValueError

    sent = await messages(AccessLog(app), {"client": None})
    assert sent[0]["status"] == 500
    assert logged(access)["status"] == 500


async def test_a_fault_in_the_middle_of_an_answer_reaches_the_server(access: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        await messages(AccessLog(app), {"client": None})
    assert logged(access)["bytes_out"] == 4


async def test_a_websocket_has_its_line_too(access: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})

    sent = await messages(RequestIds(AccessLog(app)), {"type": "websocket", "client": ("127.0.0.1", 1)})
    line = logged(access)
    assert (line["method"], line["status"], line["bytes_out"]) == ("WEBSOCKET", 101, 5)
    assert dict(sent[0]["headers"])[b"x-request-id"]


async def test_answers_may_not_run_load_or_be_framed() -> None:
    plain = await get(SecurityHeaders(PlainTextResponse("hi"), https=False))
    assert plain.headers["x-content-type-options"] == "nosniff"
    assert plain.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert plain.headers["referrer-policy"] == "no-referrer"
    assert "strict-transport-security" not in plain.headers
    secure = await get(SecurityHeaders(PlainTextResponse("hi"), https=True))
    assert secure.headers["strict-transport-security"].startswith("max-age=")


async def test_a_page_may_set_its_own_policy() -> None:
    page = PlainTextResponse("hi", headers={"Content-Security-Policy": "default-src 'self'"})
    answer = await get(SecurityHeaders(page, https=False))
    assert answer.headers.get_list("content-security-policy") == ["default-src 'self'"]


@pytest.mark.parametrize("accept", ["identity", "gzip"])
async def test_head_is_get_without_the_body(accept: str) -> None:
    app = BodylessHead(Compression(PlainTextResponse(LONG)))
    whole = await get(app, {"Accept-Encoding": accept})
    head = await get(app, {"Accept-Encoding": accept}, method="HEAD")
    assert head.content == b""
    assert head.headers == whole.headers


UNDO = {"gzip": gzip.decompress, "br": brotli.decompress, "zstd": zstandard.decompress}


async def raw(app: ASGIApp, accept: str) -> tuple[dict[str, str], bytes]:
    sent = await messages(app, {"headers": [(b"accept-encoding", accept.encode())]})
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return headers, b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("coding", UNDO)
async def test_a_long_answer_is_compressed(coding: str) -> None:
    headers, body = await raw(Compression(PlainTextResponse(LONG, headers={"ETag": '"abc"'})), coding)
    assert headers["content-encoding"] == coding
    assert headers["vary"] == "Accept-Encoding"
    assert headers["etag"] == 'W/"abc"'
    assert int(headers["content-length"]) == len(body) < len(LONG)
    assert UNDO[coding](body) == LONG.encode()


@pytest.mark.parametrize(
    "response",
    [
        PlainTextResponse("a" * (MIN_COMPRESSED_BYTES - 1)),
        Response(LONG, media_type="application/octet-stream"),
        Response(LONG, media_type="image/png"),
        PlainTextResponse(LONG, headers={"Content-Encoding": "br"}),
        PlainTextResponse(LONG, headers={"Cache-Control": "no-transform"}),
        PlainTextResponse(LONG, status_code=206),
    ],
    ids=["short", "opaque", "picture", "encoded", "no-transform", "partial"],
)
async def test_other_answers_are_left_alone(response: Response) -> None:
    headers, body = await raw(Compression(response), "gzip")
    assert headers.get("content-encoding") in {None, "br"}
    assert body == response.body


async def test_who_refuses_every_coding_gets_none() -> None:
    headers, body = await raw(Compression(PlainTextResponse(LONG, headers={"ETag": '"abc"'})), "gzip;q=0, *;q=0")
    assert "content-encoding" not in headers
    assert headers["vary"] == "Accept-Encoding"
    assert headers["etag"] == '"abc"'
    assert body == LONG.encode()


@pytest.mark.parametrize("held", ['W/"abc"', '"abc"', '"x", W/"abc"', "*"])
async def test_not_modified_names_the_tag_that_the_client_holds(held: str) -> None:
    unchanged = Compression(Response(status_code=304, headers={"ETag": '"abc"'}))
    asked = [(b"accept-encoding", b"gzip"), (b"if-none-match", held.encode())]
    headers = Headers(raw=(await messages(unchanged, {"headers": asked}))[0]["headers"])
    assert headers["etag"] == ('W/"abc"' if "W/" in held else '"abc"')


async def test_vary_names_accept_encoding_once() -> None:
    headers, _ = await raw(Compression(PlainTextResponse(LONG, headers={"Vary": "Accept, Accept-Encoding"})), "gzip")
    assert headers["vary"] == "Accept, Accept-Encoding"


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_stream_is_passed_on_piece_by_piece(coding: Coding) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        for piece in (b"first ", b"", b"second"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    sent = await messages(Compression(app), {"headers": [(b"accept-encoding", coding.encode())]})
    decoder = BoundedDecoder((coding,), limit_bytes=100)
    pieces = [b"".join(decoder.feed(message["body"])) for message in sent[1:]]
    decoder.finish()
    # What came first can be read before the rest exists.
    assert pieces == [b"first ", b"", b"second", b""]


@given(st.dictionaries(st.sampled_from(["path", "note"]), st.text(st.characters(exclude_categories=()))))
def test_every_record_is_one_line_of_json(fields: dict[str, str]) -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "beat %s", ("1",), None)
    record.fields = fields
    text = JSONFormatter().format(record)
    assert "\n" not in text
    assert json.loads(text)["message"] == "beat 1"


def test_a_traceback_is_in_the_line() -> None:
    try:
        raise ValueError("torn")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    assert "ValueError: torn" in json.loads(JSONFormatter().format(record))["error"]


def test_configured_loggers_write_json_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    try:
        configure_logging()
        logging.getLogger("uvicorn.error").info("started")
        logging.getLogger("uvicorn.access").info("never seen")
    finally:
        root.handlers, root.level = handlers, level
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["logger"], line["message"]) for line in lines] == [("uvicorn.error", "started")]
