"""Bodies: the same value in JSON and msgpack, pointers to what is wrong, bounds before anything is built."""

import asyncio
import datetime as dt
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct, json, msgpack
from starlette.requests import Request
from starlette.types import Message

from fitness_api import bodies
from fitness_api.content_codings import CODINGS, Coding, encode
from fitness_api.errors import (
    BodyTooLarge,
    Invalid,
    InvalidBody,
    MalformedBody,
    NotAcceptable,
    UnsupportedMediaType,
)


class Lap(Struct, frozen=True):
    distance_m: Annotated[float, Meta(ge=0)]
    marks: dict[str, int] = {}


class Ride(Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    laps: list[Lap] = []


def request(
    chunks: Iterable[bytes] = (),
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "POST",
    vanish: bool = False,
) -> Request[Any]:
    messages: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append(
        {"type": "http.disconnect"} if vanish else {"type": "http.request", "body": b"", "more_body": False}
    )
    arriving = iter(messages)

    async def receive() -> Message:
        return next(arriving)

    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
    return Request({"type": "http", "method": method, "path": "/", "query_string": b"", "headers": raw}, receive)


JSON = {"Content-Type": "application/json"}


async def refusal(body: bytes, kind: type[Any] = Ride) -> tuple[Invalid, ...]:
    with pytest.raises(InvalidBody) as caught:
        await bodies.read(request([body], JSON), kind)
    return caught.value.errors


async def test_json_and_msgpack_carry_the_same_value() -> None:
    ride = Ride("Home", [Lap(12.5, {"a": 1})])
    assert await bodies.read(request([json.encode(ride)], JSON), Ride) == ride
    sent = request([msgpack.encode(ride)], {"Content-Type": "application/msgpack"})
    assert await bodies.read(sent, Ride) == ride


async def test_a_body_may_come_in_any_pieces() -> None:
    body = json.encode(Ride("Home"))
    assert await bodies.read(request([body[index : index + 1] for index in range(len(body))], JSON), Ride) == Ride(
        "Home"
    )


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_compressed_body_is_undone(coding: Coding) -> None:
    sent = request([encode(coding, json.encode(Ride("Home")))], {**JSON, "Content-Encoding": coding})
    assert await bodies.read(sent, Ride) == Ride("Home")


async def test_codings_in_several_headers_are_one_list() -> None:
    async def receive() -> Message:
        body = encode("br", encode("gzip", json.encode(Ride("Home"))))
        return {"type": "http.request", "body": body, "more_body": False}

    raw = [(b"content-type", b"application/json"), (b"content-encoding", b"gzip"), (b"content-encoding", b"br")]
    assert await bodies.read(Request({"type": "http", "method": "POST", "headers": raw}, receive), Ride) == Ride("Home")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"[]", ""),
        (b'{"title": 5}', "/title"),
        (b"{}", "/title"),
        (b'{"title": "x", "laps": [{"distance_m": 1}, {"distance_m": -1}]}', "/laps/1/distance_m"),
        (b'{"title": "x", "laps": [{}]}', "/laps/0/distance_m"),
        (b'{"title": "x", "laps": [{"distance_m": 1, "marks": {"k": "v"}}]}', "/laps/0/marks"),
        (b'{"title": "x", "colour": 1}', "/colour"),
        (b'{"title": "x", "a/b~c": 1}', "/a~1b~0c"),
    ],
)
async def test_what_is_wrong_is_named_by_a_pointer(body: bytes, pointer: str) -> None:
    (wrong,) = await refusal(body)
    assert wrong.pointer == pointer
    assert "$" not in wrong.detail


async def test_a_wrong_key_points_to_its_mapping() -> None:
    (wrong,) = await refusal(b'{"x": 1}', dict[int, int])
    assert wrong.pointer == ""
    assert "key" in wrong.detail


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nul", b'"\xff"', b'"\\ud800"', b"1 2", b"NaN", b"[" * 50_000, b'{"title": "x"}}'],
    ids=["empty", "cut", "cut word", "no UTF-8", "lone surrogate", "two values", "NaN", "deep", "tail"],
)
async def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        await bodies.read(request([body], JSON), object)


@pytest.mark.parametrize(
    "body",
    [b"", b"\x92\x01", b"\xa1\xff", b"\x91" * 50_000, b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x81\x81\x01\x02\x03"],
    ids=["empty", "cut", "no UTF-8", "deep", "reserved", "huge array", "unhashable key"],
)
async def test_what_is_no_msgpack_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        await bodies.read(request([body], {"Content-Type": "application/msgpack"}), object)


@given(st.binary(max_size=200), st.sampled_from(["application/json", "application/msgpack"]))
def test_arbitrary_bytes_are_a_value_or_a_refusal(junk: bytes, media_type: str) -> None:
    with suppress(MalformedBody, InvalidBody):
        asyncio.run(bodies.read(request([junk], {"Content-Type": media_type}), Ride))


async def test_content_length_is_believed_before_anything_is_read() -> None:
    sent = request([], {"Content-Length": "101"}, vanish=True)
    with pytest.raises(BodyTooLarge):
        await bodies.read_bytes(sent, limit_bytes=100)


async def test_reading_stops_at_the_bound() -> None:
    read = 0

    async def receive() -> Message:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": bytes(50), "more_body": True}

    endless = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(BodyTooLarge):
        await bodies.read_bytes(endless, limit_bytes=100)
    assert read == 3


async def test_a_coding_that_gives_nothing_is_bounded_too() -> None:
    header = b"\x1f\x8b\x08\x08" + bytes(6)  # a gzip file name follows, and never ends

    async def receive() -> Message:
        nonlocal header
        header, chunk = b"n" * 1000, header
        return {"type": "http.request", "body": chunk, "more_body": True}

    endless = Request({"type": "http", "method": "POST", "headers": [(b"content-encoding", b"gzip")]}, receive)
    with pytest.raises(BodyTooLarge):
        await bodies.read_bytes(endless, limit_bytes=100)


async def test_exactly_the_bound_fits() -> None:
    assert await bodies.read_bytes(request([bytes(100)], {"Content-Length": "100"}), limit_bytes=100) == bytes(100)


async def test_a_client_that_goes_away_is_malformed() -> None:
    with pytest.raises(MalformedBody):
        await bodies.read_bytes(request([b"half"], vanish=True), limit_bytes=100)


async def test_a_form_is_read() -> None:
    form = {"grant_type": "refresh_token", "note": "größer & = +", "empty": ""}
    sent = request([urlencode(form).encode()], {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"})
    assert await bodies.read_form(sent) == form


async def test_a_repeated_parameter_is_refused() -> None:
    with pytest.raises(InvalidBody) as caught:
        await bodies.read_form(request([b"a=1&a=2"], {"Content-Type": bodies.FORM_MEDIA_TYPE}))
    assert caught.value.errors[0].pointer == "/a"


@pytest.mark.parametrize("body", [b"a=%ff", b"\xff=1", b"&".join([b"a=1"] * 100)], ids=["escape", "byte", "many"])
async def test_what_is_no_form_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        await bodies.read_form(request([body], {"Content-Type": bodies.FORM_MEDIA_TYPE}))


async def test_a_form_of_another_type_is_refused() -> None:
    with pytest.raises(UnsupportedMediaType):
        await bodies.read_form(request([b"{}"], JSON))


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", "json"),
        ("Application/JSON; charset=UTF-8", "json"),
        ('application/json; charset="utf-8"', "json"),
        ("application/msgpack", "msgpack"),
    ],
)
def test_content_type_says_the_format(content_type: str, expected: str) -> None:
    assert bodies.request_format(request(headers={"Content-Type": content_type})) == expected


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json; charset=latin-1", "application", "json"])
def test_other_content_types_are_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        bodies.request_format(request(headers={"Content-Type": content_type}))


@pytest.mark.parametrize(
    ("accept", "own", "expected"),
    [
        (None, "", "json"),
        (None, "application/msgpack", "msgpack"),
        ("*/*", "application/msgpack", "msgpack"),
        ("*/*", "", "json"),
        ("application/msgpack", "application/json", "msgpack"),
        ("application/json;q=0.5, application/msgpack", "", "msgpack"),
        ("application/json, application/msgpack", "application/msgpack", "msgpack"),
        ("application/*;q=0.1, application/json;q=0", "", "msgpack"),
        ("text/html, */*;q=0.1", "", "json"),
        ("APPLICATION/MSGPACK", "", "msgpack"),
        ("", "", "json"),
    ],
)
def test_accept_chooses(accept: str | None, own: str, expected: str) -> None:
    headers = {"Content-Type": own} | ({"Accept": accept} if accept is not None else {})
    assert bodies.answer_format(request(headers=headers)) == expected


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "*/*;q=0", "application/json;q=x", ";"])
def test_an_accept_that_leaves_nothing_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        bodies.answer_format(request(headers={"Accept": accept}))


def test_an_answer_is_the_same_in_both_formats() -> None:
    instant = dt.datetime(2026, 3, 1, 7, 30, tzinfo=dt.UTC)
    value = {"at": instant, "id": UUID(int=7), "laps": [Lap(1.5)]}
    as_json = bodies.respond(request(), value)
    as_msgpack = bodies.respond(request(headers={"Accept": "application/msgpack"}), value)
    assert as_msgpack.media_type == "application/msgpack"
    assert json.decode(as_json.body) == msgpack.decode(as_msgpack.body)


def test_a_get_has_a_tag_and_is_304_for_it() -> None:
    first = bodies.respond(request(method="GET"), {"a": 1})
    tag = first.headers["etag"]
    assert tag.startswith('"')
    for asked in (tag, f'"other", W/{tag}', "*"):
        again = bodies.respond(request(method="GET", headers={"If-None-Match": asked}), {"a": 1})
        assert (again.status_code, again.body, again.headers["etag"]) == (304, b"", tag)
        assert "content-type" not in again.headers
    other = bodies.respond(request(method="GET", headers={"If-None-Match": tag}), {"a": 2})
    assert other.status_code == 200


def test_writes_and_other_statuses_have_no_tag() -> None:
    assert "etag" not in bodies.respond(request(method="POST"), {}).headers
    assert "etag" not in bodies.respond(request(method="GET"), {}, status=202).headers


def test_what_a_token_or_a_write_gets_is_not_stored() -> None:
    assert (
        bodies.respond(request(method="GET", headers={"Authorization": "Bearer x"}), {}).headers["cache-control"]
        == "no-store"
    )
    assert bodies.respond(request(method="POST"), {}).headers["cache-control"] == "no-store"
    assert "cache-control" not in bodies.respond(request(method="GET"), {}).headers
    own = bodies.respond(request(method="POST"), {}, headers={"cache-control": "private"})
    assert own.headers.getlist("cache-control") == ["private"]


def test_answers_vary_by_what_chose_them() -> None:
    assert bodies.respond(request(), {}).headers["vary"] == "Accept, Accept-Encoding"
