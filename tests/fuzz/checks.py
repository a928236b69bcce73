"""What holds of every answer, whatever was asked."""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

import brotli
import msgspec
import zstandard
from msgspec import DecodeError

from fitness_api import content_codings, openapi
from fitness_api.app import OPERATIONS
from fitness_api.content_codings import BoundedDecoder, Coding
from fitness_api.errors import ApiError
from fitness_api.operation import Media
from sync import clock, values
from sync.changes import MAX_PAGE_BYTES, MAX_REQUEST_BYTES, SyncRequest, with_lone_surrogates_marked
from sync.document import Document, Key
from sync.head import Head
from tests.fuzz.gateway import PUBLIC_URL, Answer, Fault, Sent, World

_MEDIA_TYPES: Final = {"application/json": "json", "application/msgpack": "msgpack"}
_POINTER: Final = re.compile(r"(/([^/~]|~[01])*)*")
_CODE: Final = re.compile(r"[a-z][a-z0-9_]*")

_PUBLISHED: Final = openapi.document(OPERATIONS, public_url=PUBLIC_URL)["paths"]
_ROUTES: Final = [
    (re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))), path)
    for path in sorted(_PUBLISHED, key=lambda path: [segment.startswith("{") for segment in path.split("/")])
]
_DECODERS: Final[Mapping[tuple[str, str, int, str], Any]] = {
    (operation.method, operation.path, status, name): codec.Decoder(shape)
    for operation in OPERATIONS
    for status, shape in operation.answers.items()
    if shape is not None and not isinstance(shape, Media)
    for name, codec in (("json", msgspec.json), ("msgpack", msgspec.msgpack))
}


@lru_cache(maxsize=4_096)
def documented(method: str, path: str) -> tuple[str | None, frozenset[int], frozenset[str]]:
    """Return the route, its statuses, and its problems' codes."""
    path = unquote(path)
    route = next((route for pattern, route in _ROUTES if pattern.fullmatch(path)), None)
    if route is None or path.endswith("\n"):
        return None, frozenset({404}), frozenset({"not_found"})
    if method == "OPTIONS":
        return route, frozenset({204}), frozenset()
    operation = _PUBLISHED[route].get("get" if method == "HEAD" else method.lower())
    if operation is None:
        return route, frozenset({405}), frozenset({"method_not_allowed"})
    codes = {
        code
        for answer in operation["responses"].values()
        for content in answer.get("content", {}).values()
        for code in content.get("examples", {})
    }
    return route, frozenset(map(int, operation["responses"])), frozenset(codes)


def check(sent: Sent, answer: Answer) -> Any:
    """Return the decoded answer of a success, else None. Raises Fault."""
    route, statuses, codes = documented(sent.method, sent.path)
    if answer.status not in statuses or answer.status >= 500:
        raise Fault("status", f"{answer.status} is not among {sorted(statuses)}: {answer.body[:500]!r}")
    if not answer.headers.get("x-request-id"):
        raise Fault("headers", "X-Request-Id is missing")
    body = _undone(sent, answer)
    if (
        "content-length" in answer.headers
        and sent.method != "HEAD"
        and len(answer.body) != int(answer.headers["content-length"])
    ):
        raise Fault("headers", f"Content-Length {answer.headers['content-length']} of {len(answer.body)} bytes")
    if answer.status >= 400:
        if sent.method != "HEAD":
            _check_problem(answer, body, codes)
        return None
    if answer.status in {204, 304} or sent.method in {"HEAD", "OPTIONS"}:
        if answer.body:
            raise Fault("body", f"{answer.status} to {sent.method} has a body")
        return None
    name = _MEDIA_TYPES.get(answer.headers.get("content-type", ""))
    wanted = _wanted(sent)
    if name is None or (wanted is not None and name != wanted):
        raise Fault("format", f"{answer.headers.get('content-type')} for {sent.header(b'accept')}")
    try:
        return _DECODERS[sent.method, str(route), answer.status, name].decode(body)
    except (DecodeError, UnicodeDecodeError) as error:
        raise Fault("undecodable", f"{error}: {body[:500]!r}") from error


def _undone(sent: Sent, answer: Answer) -> bytes:
    coding = answer.headers.get("content-encoding")
    if coding is None or sent.method == "HEAD":
        return answer.body
    asked = b",".join(sent.header(b"accept-encoding")).decode("latin-1").lower()
    if coding not in asked and "*" not in asked:
        raise Fault("coding", f"{coding} for {asked!r}")
    try:
        decoder = BoundedDecoder(content_codings.parse(coding), limit_bytes=1 << 30)
        body = b"".join(decoder.feed(answer.body))
        decoder.finish()
    except ApiError as error:
        raise Fault("coding", str(error)) from error
    return body


def _check_problem(answer: Answer, body: bytes, codes: frozenset[str]) -> None:
    if answer.headers.get("content-type") != "application/problem+json":
        raise Fault("problem", f"content-type {answer.headers.get('content-type')}")
    try:
        problem = msgspec.json.decode(body)
    except (DecodeError, UnicodeDecodeError) as error:
        raise Fault("problem", f"{error}: {body[:300]!r}") from error
    texts = ("type", "title", "detail", "code", "request_id")
    is_sound = (
        isinstance(problem, dict)
        and all(isinstance(problem.get(name), str) and problem[name] for name in texts)
        and problem.get("status") == answer.status
        and _CODE.fullmatch(problem["code"])
        and problem["type"].startswith(f"{PUBLIC_URL}/problems/")
        and problem["request_id"] == answer.headers["x-request-id"]
    )
    if not is_sound:
        raise Fault("problem", f"{body[:500]!r}")
    if problem["code"] not in codes:
        raise Fault("problem", f"{problem['code']} is not among {sorted(codes)}")
    for wrong in problem.get("errors", ()):
        if set(wrong) != {"pointer", "detail"} or not _POINTER.fullmatch(wrong["pointer"]) or not wrong["detail"]:
            raise Fault("problem", f"errors: {wrong}")
    if answer.status == 401 and "www-authenticate" not in answer.headers:
        raise Fault("problem", "401 without WWW-Authenticate")
    if answer.status in {429, 503} and "retry-after" not in answer.headers:
        raise Fault("problem", f"{answer.status} without Retry-After")


def _wanted(sent: Sent) -> str | None:
    """Return the format that the answer has to have, where the request leaves no doubt."""
    accepts = sent.header(b"accept")
    if len(accepts) == 1:
        return _MEDIA_TYPES.get(accepts[0].decode("latin-1"))
    types = sent.header(b"content-type")
    if not accepts and len(types) <= 1:
        return _MEDIA_TYPES.get(types[0].decode("latin-1"), None) if types else "json"
    return None


def decoded_body(sent: Sent) -> bytes:
    """Return the body as the application has to have read it."""
    codings = content_codings.parse(b",".join(sent.header(b"content-encoding")).decode("latin-1"))
    body = sent.body
    for coding in reversed(codings):
        body = _whole(coding, body)
    return body


def _whole(coding: Coding, body: bytes) -> bytes:
    match coding:
        case "br":
            return bytes(brotli.decompress(body)) if body else b""
        case "zstd" if body.count(b"\x28\xb5\x2f\xfd") == 1:
            with zstandard.ZstdDecompressor().stream_reader(body) as reader:
                return bytes(reader.read(MAX_REQUEST_BYTES + 1))
        case _:
            decoder = BoundedDecoder((coding,), limit_bytes=MAX_REQUEST_BYTES)
            return b"".join(decoder.feed(body))


def check_round_trip(sent: Sent, response: Any, world: World, before: Head | None) -> None:
    """One result a change, in order; what stands is stored; sequences have no gap; the page is within its bounds."""
    name, request = _request(sent)
    if len(response.results) != len(request.changes):
        raise Fault("results", f"{len(response.results)} for {len(request.changes)} changes")
    account = world.store._account(world.user_ids[sent.user])
    for raw, result in zip(request.changes, response.results, strict=True):
        change = _decoded(bytes(raw), name)
        if change is None and result.status != "rejected":
            change = _decoded_as_far_as_read(bytes(raw), name)
        elif result.status == "rejected" and result.id is None and _may_be_too_deep(bytes(raw)):
            continue  # decoded here, and not from a frame that is a little deeper
        _check_result(change, result, account.documents)
    _check_sequences(world, sent.user, before)
    if len(response.documents) > request.limit:
        raise Fault("page", f"{len(response.documents)} documents, {request.limit} asked for")
    if len(response.documents) > 1:
        encoded = sum(len(msgspec.json.encode(document)) for document in response.documents)
        if encoded > 3 * MAX_PAGE_BYTES:  # the bound is on the answer's own format
            raise Fault("page", f"{encoded} bytes")
    if response.more == (response.digests is not msgspec.UNSET):
        raise Fault("page", "digests belong to the last page of a run")


def _request(sent: Sent) -> tuple[str, SyncRequest]:
    body = decoded_body(sent)
    if b"msgpack" in sent.header(b"content-type")[0].lower():
        return "msgpack", msgspec.msgpack.decode(body, type=SyncRequest)
    try:
        return "json", msgspec.json.decode(body, type=SyncRequest)
    except DecodeError:
        return "json", msgspec.json.decode(with_lone_surrogates_marked(body), type=SyncRequest)


def _check_result(change: Any, result: Any, documents: Mapping[Key, Document]) -> None:
    """`change`: as decoded here, None if it cannot be."""
    change_id = change.get("id") if isinstance(change, dict) else None
    if isinstance(change_id, str) and len(change_id) <= 64 and result.id != change_id:
        raise Fault("results", f"{result.id} for the change {change_id}")
    if result.status == "rejected":
        if not result.code or not result.detail:
            raise Fault("results", f"a rejection without a reason: {result}")
        return
    if change is None:
        raise Fault("results", f"what cannot be decoded is {result}")
    if not change["set"]:
        return  # of nothing all is stored
    stamp = clock.from_wire(result.stamp if result.status == "restamped" else change["stamp"])
    document = documents.get(Key(change["collection"], change["doc"]))
    if document is None or stamp is None:
        raise Fault("lost", f"{result} is stored nowhere")
    for path, value in ({} if document.purged else change["set"]).items():
        mark = document.mark(path)
        if mark is None or mark.stamp < stamp:
            raise Fault("lost", f"{path!r} of {result} is not stored")
        if mark.stamp == stamp and not _at_least(document.values[path], values.from_wire(value)):
            raise Fault("lost", f"{path!r} of {result} lost to a smaller value")


def _at_least(stored: Any, given: Any) -> bool:
    return values.same(stored, given) or values.canonical(stored) > values.canonical(given)


def _decoded(raw: bytes, name: str) -> Any:
    try:
        return msgspec.json.decode(raw) if name == "json" else msgspec.msgpack.decode(raw)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _may_be_too_deep(raw: bytes) -> bool:
    return sum(map(raw.count, (b"[", b"{", b"\x81", b"\x91"))) > 500


def _decoded_as_far_as_read(raw: bytes, name: str) -> Any:
    """A member that nobody reads may hold a number beyond a double's, or what is no UTF-8."""
    try:
        return json.loads(raw.decode(errors="replace")) if name == "json" else None
    except (ValueError, RecursionError):
        return None


def _check_sequences(world: World, user: int, before: Head | None) -> None:
    account = world.store._account(world.user_ids[user])
    head = account.head
    if before is None or head is None or head.seq == before.seq:
        return
    new = sorted(document.seq for document in account.documents.values() if document.seq > before.seq)
    if new != list(range(before.seq + 1, head.seq + 1)):
        raise Fault("sequences", f"{before.seq} → {head.seq} gave {new[:20]}")
