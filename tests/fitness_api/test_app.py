"""The whole edge, from outside: routing, what an operation declares, and no request that is answered by a 500."""

import asyncio
import gzip
import logging
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from pymongo.asynchronous.database import AsyncDatabase
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import app, bodies
from fitness_api.identity.access_tokens import Principal
from fitness_api.operation import Operation, Parameter
from fitness_api.resources import Resources
from fitness_api.settings import Settings
from tests.fitness_api.serving import serving

Json = dict[str, Any]

# Where a refusal is a page, or OAuth's own.
PAGES = ("/v1/oauth", "/v1/auth/oidc")


class Echo(Struct):
    said: str


async def echo(request: Request[Resources], principal: Principal) -> Response:
    return bodies.respond(request, await bodies.read(request, Echo, limit_bytes=1000))


async def of_scope(request: Request[Resources], principal: Principal) -> Response:
    return bodies.respond(request, Echo(principal.user_id))


async def one(request: Request[Resources]) -> Response:
    return bodies.respond(request, Echo(request.path_params["ride_id"]))


async def latest(request: Request[Resources]) -> Response:
    return bodies.respond(request, Echo("latest"))


async def broken(request: Request[Resources]) -> Response:
    raise ValueError("hunter2")


RIDE = Parameter(name="ride_id", where="path", description="", type=UUID)
OWN = (
    Operation(
        method="POST", path="/v1/echo", handler=echo, tag="x", summary="x", login=True, body=Echo, answers={200: Echo}
    ),
    Operation(
        method="GET",
        path="/v1/admins",
        handler=of_scope,
        tag="x",
        summary="x",
        login=True,
        scope="admin",
        answers={200: Echo},
    ),
    Operation(
        method="GET",
        path="/v1/mine",
        handler=of_scope,
        tag="x",
        summary="x",
        login=True,
        scope="sync",
        answers={200: Echo},
    ),
    Operation(
        method="GET",
        path="/v1/rides/{ride_id}",
        handler=one,
        tag="x",
        summary="x",
        parameters=(RIDE,),
        answers={200: Echo},
    ),
    Operation(method="DELETE", path="/v1/rides/{ride_id}", handler=one, tag="x", summary="x", answers={200: Echo}),
    Operation(method="GET", path="/v1/rides/latest", handler=latest, tag="x", summary="x", answers={200: Echo}),
    Operation(method="GET", path="/v1/broken", handler=broken, tag="x", summary="x", answers={200: Echo}),
)


@pytest.fixture
def own_settings(database: AsyncDatabase[Json], mongo_url: str, redis_url: str) -> Settings:
    return Settings(
        mongo_url=mongo_url,
        redis_url=redis_url,
        mongo_database=database.name,
        master_key=b64encode(b"e" * 32).decode(),
        public_url="http://api.test",
        password_hashers=1,
        unlimited_networks="127.0.0.0/8",
    )


@pytest.fixture
async def api(own_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(app.build(own_settings, operations=(*app.OPERATIONS, *OWN))) as client:
        yield client


async def registered(api: httpx.AsyncClient) -> str:
    answer = await api.post("/v1/auth/register", json={"email": f"{uuid4()}@example.org", "password": "correct horse"})
    token: str = answer.json()["access_token"]
    return token


@pytest.fixture
async def token(api: httpx.AsyncClient) -> str:
    return await registered(api)


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["type"] == f"http://api.test/problems/{body['code'].replace('_', '-')}"
    return answer.status_code, body["code"]


async def test_an_unknown_path_is_a_problem_whoever_asks(api: httpx.AsyncClient) -> None:
    for path in ("/", "/v1/none", "/v1/sync/", "//", "/v1/%00", "/docs/../x", "/docs%0A", "/v1/sync/schema%0A"):
        assert problem(await api.get(path)) == (404, "not_found")


async def test_an_unknown_method_is_a_problem_that_names_the_known(api: httpx.AsyncClient) -> None:
    answer = await api.put(f"/v1/rides/{uuid4()}")
    assert problem(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, OPTIONS"
    assert problem(await api.request("BREW", "/docs")) == (405, "method_not_allowed")


async def test_options_names_the_methods(api: httpx.AsyncClient) -> None:
    answer = await api.options("/v1/echo")
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, "OPTIONS, POST", b"")


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/openapi.json", "/v1/rides/latest", "/v1/none"])
async def test_head_answers_as_get_without_a_body(api: httpx.AsyncClient, path: str) -> None:
    own = {"X-Request-Id": "the-same-id"}
    whole, head = await api.get(path, headers=own), await api.head(path, headers=own)
    assert head.content == b""
    assert (head.status_code, head.headers) == (whole.status_code, whole.headers)


async def test_a_fixed_segment_goes_before_a_parameter(api: httpx.AsyncClient) -> None:
    assert (await api.get("/v1/rides/latest")).json() == {"said": "latest"}


async def test_an_id_is_a_lower_case_uuid_or_nothing(api: httpx.AsyncClient) -> None:
    ride = str(uuid4())
    assert (await api.get(f"/v1/rides/{ride}")).json() == {"said": ride}
    for other in (ride.upper(), ride.replace("-", ""), ride + "0", "7", "%00", "{" + ride + "}"):
        assert problem(await api.get(f"/v1/rides/{other}")) == (404, "not_found")


def test_a_row_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        app.routes([*OWN, OWN[0]])


async def test_a_login_is_asked_for_before_anything_else(api: httpx.AsyncClient) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic eDp5"}):
        answer = await api.post("/v1/echo", content=b"{", headers=headers)
        assert problem(answer) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer ")


async def test_a_token_without_the_scope_is_told_which(api: httpx.AsyncClient, token: str) -> None:
    bearer = {"Authorization": f"Bearer {token}"}
    answer = await api.get("/v1/admins", headers=bearer)
    assert problem(answer) == (403, "insufficient_scope")
    assert answer.json()["scope"] == "admin"
    mine = await api.get("/v1/mine", headers=bearer)
    assert (mine.status_code, mine.headers["cache-control"]) == (200, "no-store")


async def test_what_cannot_be_answered_is_refused_before_it_is_done(api: httpx.AsyncClient, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/html"}
    assert problem(await api.post("/v1/echo", json={"said": "x"}, headers=headers)) == (406, "not_acceptable")


@pytest.mark.parametrize(
    ("content", "headers", "expected"),
    [
        (b"{", {}, (400, "malformed_body")),
        (b'{"said": 1}', {}, (422, "invalid_body")),
        (b'{"said": "x"}', {"Content-Type": "text/plain"}, (415, "unsupported_media_type")),
        (b'{"said": "x"}', {"Content-Encoding": "rot13"}, (415, "unsupported_media_type")),
        (b'{"said": "x"}', {"Content-Encoding": "gzip"}, (400, "malformed_body")),
        (b" " * 1001, {}, (413, "body_too_large")),
        (gzip.compress(bytes(10_000_000)), {"Content-Encoding": "gzip"}, (413, "body_too_large")),
        (gzip.compress(b'{"said": "x"}')[:-3], {"Content-Encoding": "gzip"}, (400, "malformed_body")),
    ],
    ids=["cut", "type", "media type", "coding", "not gzip", "large", "bomb", "cut gzip"],
)
async def test_a_bad_body_is_a_problem_even_to_who_accepts_msgpack(
    api: httpx.AsyncClient, token: str, content: bytes, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept": "application/msgpack"}
    assert problem(await api.post("/v1/echo", content=content, headers=sent | headers)) == expected


async def test_a_body_without_a_media_type_is_told_so(api: httpx.AsyncClient, token: str) -> None:
    answer = await api.post("/v1/echo", content=b'{"said": "x"}', headers={"Authorization": f"Bearer {token}"})
    assert problem(answer) == (415, "unsupported_media_type")
    assert answer.json()["detail"].startswith("It has no Content-Type; send one of: application/json")


async def test_a_fault_is_a_problem_that_says_nothing_and_a_log_line_that_says_all(
    api: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "fitness_api.problems"):
        answer = await api.get("/v1/broken", headers={"X-Request-Id": "known-to-the-client"})
    assert problem(answer) == (500, "internal_error")
    assert answer.headers["x-request-id"] == "known-to-the-client"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "hunter2" not in answer.text
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "hunter2" in str(record.exc_info[1])


paths = st.sampled_from([operation.path for operation in app.OPERATIONS]).flatmap(
    lambda path: st.sampled_from([str(UUID(int=7)), "x", "%00", "%F0%9F%92%93", "..", "0" * 300]).map(
        lambda word: "/".join(word if segment.startswith("{") else segment for segment in path.split("/"))
    )
)
media_types = st.sampled_from(
    [
        "application/json",
        "application/msgpack",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "text/plain",
        ";",
        "a/b;=",
    ]
)
header_text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
requests = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"]),
        "url": paths,
        "content": st.one_of(
            st.binary(max_size=100),
            st.integers(1, 3000).map(lambda depth: b"[" * depth),
            st.integers(1, 3000).map(lambda depth: b"\x91" * depth),
            st.sampled_from(
                [b"{}", b"[]", b"null", b"\x80", b'{"email": 1}', b'{"email": "\\u0000@b", "password": "        "}']
            ),
            st.binary(max_size=50).map(gzip.compress),
            st.integers(1, 20).map(lambda cut: gzip.compress(b"{}")[:-cut]),
        ),
        "headers": st.fixed_dictionaries(
            {},
            optional={
                "Content-Type": st.one_of(media_types, header_text),
                "Content-Encoding": st.one_of(
                    st.sampled_from(["gzip", "br", "zstd", "gzip, gzip", "identity", ","]), header_text
                ),
                "Accept": st.one_of(
                    st.sampled_from(["*/*", "application/msgpack", "application/json;q=0", "text/html"]), header_text
                ),
                "Accept-Encoding": st.one_of(st.sampled_from(["zstd", "br;q=0.1, gzip"]), header_text),
                "If-None-Match": header_text,
                "X-Request-Id": header_text,
                "traceparent": header_text,
                "Range": header_text,
                "Authorization": header_text,
            },
        ),
    }
)


async def test_no_request_is_answered_by_a_500(api: httpx.AsyncClient, token: str) -> None:
    loop = asyncio.get_running_loop()
    pages = {operation.path for operation in app.OPERATIONS if operation.tag == "Pages"}
    queries = {"limit": "x", "cursor": "\x00", "streams": "a,,b", "points": "-1"}

    async def ask(request: Json) -> httpx.Response:
        nonlocal token
        headers = {"Authorization": f"Bearer {token}"} | request["headers"]
        answer = await api.request(**{**request, "headers": headers}, params=queries)
        if answer.status_code == 401 and "Authorization" not in request["headers"]:
            # Some requests end the session; the others are to get past the door.
            token = await registered(api)
        return answer

    # Hypothesis drives from a thread of its own, so that every request runs in the loop that the clients were opened in.
    @settings(max_examples=300, deadline=None)
    @given(requests)
    def fuzz(request: Json) -> None:
        answer = asyncio.run_coroutine_threadsafe(ask(request), loop).result(timeout=30)
        assert answer.status_code < 500
        assert answer.headers["x-request-id"]
        # OAuth's endpoints and pages for people refuse in words of their own.
        is_ours = not request["url"].startswith(PAGES) and request["url"] not in pages
        if answer.status_code >= 400 and request["method"] != "HEAD" and is_ours:
            problem(answer)

    await asyncio.to_thread(fuzz)
