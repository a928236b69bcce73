"""Request bodies in, answers out: JSON and msgpack alike, compressed or not, under a bound.

    profile = await bodies.read(request, ProfileChange)
    return bodies.respond(request, profile, status=200)

Every refusal is one of `fitness_api.errors`.
"""

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal, TypeVar
from urllib.parse import parse_qsl

from msgspec import DecodeError, ValidationError, json, msgpack, to_builtins
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response

from fitness_api.content_codings import PIECE_BYTES, BoundedDecoder, parse, quality
from fitness_api.errors import (
    BodyTooLarge,
    Invalid,
    InvalidBody,
    MalformedBody,
    NotAcceptable,
    UnsupportedMediaType,
)

T = TypeVar("T")
Format = Literal["json", "msgpack"]

MEDIA_TYPES: Final[Mapping[Format, str]] = {"json": "application/json", "msgpack": "application/msgpack"}
FORM_MEDIA_TYPE: Final = "application/x-www-form-urlencoded"

# What a screen of a phone sends; synchronisation and imports name their own.
DEFAULT_LIMIT_BYTES: Final = 256 * 1024

# A form carries tokens and a few words. RFC 6749 needs a dozen parameters at most.
FORM_LIMIT_BYTES: Final = 64 * 1024
MAX_FORM_PARAMETERS: Final = 64

# Where in a request's scope stands who is to see its body before it is used, and may end the request by what it raises.
ON_BODY: Final = "fitness_api.on_body"

# Clients send the same few headers again and again; of the latest ones the outcome is known, 200 KB at most.
MAX_REMEMBERED: Final = 512
MAX_REMEMBERED_BYTES: Final = 256

# Where in a request's scope its answer's format stands once it is known.
_FORMAT: Final = "fitness_api.answer_format"

# A big body is undone in steps, with the event loop's other work in between.
BREATH_BYTES: Final = 1024 * 1024

_DECODERS: Final[Mapping[Format, Any]] = {"json": json.decode, "msgpack": msgpack.decode}
_AT: Final = re.compile(r" - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`$")
_STEP: Final = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")
_MEMBER: Final = re.compile(r"^Object (?:missing required|contains unknown) field `(?P<name>[^`]*)`$")


def _nothing(_: int) -> None:
    pass


async def read_bytes(request: Request[Any], *, limit_bytes: int, keep: Callable[[int], None] = _nothing) -> bytes:
    """Return the body with its Content-Encoding undone, of at most `limit_bytes`.

    `keep` is told the length of each piece before it is kept, and may raise.
    Raises BodyTooLarge as soon as that is known, UnsupportedMediaType if a coding is not ours, MalformedBody if the body
    is not what the coding says or if the client went away.
    """
    codings = parse(",".join(request.headers.getlist("content-encoding")))
    declared = request.headers.get("content-length", "")
    # Only where nothing is compressed do the sizes compare to the letter; the decoder counts the rest.
    if not codings and declared.isdecimal() and int(declared[:20]) > limit_bytes:
        raise BodyTooLarge(limit_bytes=limit_bytes)
    received_bytes = 0
    decoder = BoundedDecoder(codings, limit_bytes=limit_bytes)
    decoded = bytearray()
    breath = BREATH_BYTES
    try:
        async for chunk in request.stream():
            received_bytes += len(chunk)
            # A coding can be fed for ever and give nothing: a skippable zstd frame, a gzip file name without an end.
            if received_bytes > limit_bytes + PIECE_BYTES:
                raise BodyTooLarge(limit_bytes=limit_bytes)
            for piece in decoder.feed(chunk):
                keep(len(piece))
                decoded += piece
                if len(decoded) > limit_bytes:
                    raise BodyTooLarge(limit_bytes=limit_bytes)
                if len(decoded) > breath:
                    breath += BREATH_BYTES
                    await asyncio.sleep(0)
    except ClientDisconnect as error:
        raise MalformedBody("The connection ended before the body did.") from error
    decoder.finish()
    body = bytes(decoded)
    if (on_body := request.scope.pop(ON_BODY, None)) is not None:
        await on_body(body)
    return body


async def read(request: Request[Any], type: type[T], *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> T:  # noqa: A002
    """Raises InvalidBody with JSON Pointers if the body is not a `type`, MalformedBody if it is not JSON or msgpack at all."""
    body_format = request_format(request)
    return decode(await read_bytes(request, limit_bytes=limit_bytes), type, body_format=body_format)


def decode(body: bytes, type: type[T], *, body_format: Format) -> T:  # noqa: A002
    if not body:
        raise MalformedBody("The body is empty.")
    try:
        value: T = _DECODERS[body_format](body, type=type)
    except ValidationError as error:
        raise InvalidBody(invalid(str(error))) from error
    except (DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"The body is not {body_format}: {error}.") from error
    except RecursionError as error:
        raise MalformedBody("The body is nested too deep.") from error
    return value


def invalid(message: str) -> Invalid:
    """Return what msgspec says ("Expected `int`, got `str` - at `$.a[0].b`") with its path as a JSON Pointer.

    msgspec names the place inside a mapping only as `[...]`; the pointer then stops at the mapping.
    """
    detail, pointer = message, ""
    if at := _AT.search(message):
        detail = message[: at.start()]
        if at["key"]:
            detail += " in a key"
        for step in _STEP.finditer(at["path"]):
            if step["index"] == "...":
                return Invalid(pointer, f"{detail} (in one of its members)")
            pointer += "/" + escape(step["name"] or step["index"])
    if member := _MEMBER.match(detail):
        pointer += "/" + escape(member["name"])
    return Invalid(pointer, detail)


def escape(component: str) -> str:
    """RFC 6901 section 3."""
    return component.replace("~", "~0").replace("/", "~1")


async def read_form(request: Request[Any], *, limit_bytes: int = FORM_LIMIT_BYTES) -> dict[str, str]:
    """Raises InvalidBody if a parameter comes twice (RFC 6749 section 3.2), MalformedBody if the body is no UTF-8 form."""
    got, _ = _media_type(request.headers.get("content-type", ""))
    if got != FORM_MEDIA_TYPE:
        raise UnsupportedMediaType(got=got[:80], supported=(FORM_MEDIA_TYPE,))
    body = await read_bytes(request, limit_bytes=limit_bytes)
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FORM_PARAMETERS
        )
    except ValueError as error:
        raise MalformedBody("The body is not a form of UTF-8 text with a few parameters.") from error
    form: dict[str, str] = {}
    for name, value in pairs:
        if name in form:
            raise InvalidBody(Invalid("/" + escape(name[:80]), "given more than once"))
        form[name] = value
    return form


def request_format(request: HTTPConnection[Any]) -> Format:
    """Raises UnsupportedMediaType if Content-Type is missing or is neither JSON nor msgpack."""
    content_type = request.headers.get("content-type", "")
    got, parameters = _media_type(content_type)
    # RFC 8259 section 8.1: JSON has no charset parameter and is UTF-8. A client that says so is right, any other is not.
    if parameters.get("charset", "utf-8") in {"utf-8", "utf8"}:
        for body_format, media_type in MEDIA_TYPES.items():
            if got == media_type:
                return body_format
    raise UnsupportedMediaType(got=content_type[:80], supported=tuple(MEDIA_TYPES.values()))


def answer_format(request: HTTPConnection[Any]) -> Format:
    """Return what Accept likes best; a tie and a missing header go to the format of the request's own body, else to JSON.

    Raises NotAcceptable if Accept leaves neither. Source: RFC 9110 section 12.5.1.
    """
    known: Format | None = request.scope.get(_FORMAT)
    if known is None:
        content_type = request.headers.get("content-type", "")
        accept = ",".join(request.headers.getlist("accept"))
        is_short = len(content_type) + len(accept) <= MAX_REMEMBERED_BYTES
        known = (_remembered_format if is_short else _liked_format)(content_type, accept)
        request.scope[_FORMAT] = known
    return known


def _liked_format(content_type: str, accept: str) -> Format:
    """Raises NotAcceptable."""
    own, _ = _media_type(content_type)
    preferred: tuple[Format, ...] = ("msgpack", "json") if own == MEDIA_TYPES["msgpack"] else ("json", "msgpack")
    if not accept.strip():
        return preferred[0]
    ranges: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        ranges[name] = max(quality(parameters), ranges.get(name, 0.0))

    def liked(body_format: Format) -> float:
        # The most specific range decides, so that "*/*, application/json;q=0" refuses JSON.
        for name in (MEDIA_TYPES[body_format], "application/*", "*/*"):
            if name in ranges:
                return ranges[name]
        return 0.0

    best = max(preferred, key=liked)
    if liked(best) <= 0:
        raise NotAcceptable(got=accept[:80], supported=tuple(MEDIA_TYPES.values()))
    return best


_remembered_format = lru_cache(MAX_REMEMBERED)(_liked_format)


def rfc3339(at_ms: int) -> str:
    """Return an instant, in Unix milliseconds, as bodies carry it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def respond(
    request: HTTPConnection[Any], value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Encode `value` in the answer's format. Instants are RFC 3339 text and UUIDs text in both formats; bytes stay binary in msgpack.

    A value that holds msgspec.Raw is the caller's to encode, for `respond_bytes`.
    """
    return respond_bytes(request, encode(value, answer_format(request)), status=status, headers=headers)


def encode(value: Any, answered: Format) -> bytes:
    if answered == "json":
        return json.encode(value)
    return msgpack.encode(to_builtins(value, builtin_types=(bytes, bytearray, memoryview)))


def entity_tag(body: bytes) -> str:
    return f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'


def respond_bytes(
    request: HTTPConnection[Any],
    body: bytes,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    media_type: str | None = None,
    tag: str | None = None,
) -> Response:
    """Answer with a body that is already in the answer's format, or in `media_type`.

    A GET's 200 gets a strong ETag, `tag` if the body's is known, and is a 304 where If-None-Match names it.
    """
    out = {"Vary": "Accept, Accept-Encoding"}
    method = request.scope.get("method")
    # An answer to a token is that user's alone, and an answer to a write may hold one: neither may rest in a cache.
    if "authorization" in request.headers or method not in {"GET", "HEAD"}:
        out["Cache-Control"] = "no-store"
    if method in {"GET", "HEAD"} and status == 200:
        out["ETag"] = tag or entity_tag(body)
    for name, text in (headers or {}).items():
        out = {known: kept for known, kept in out.items() if known.lower() != name.lower()} | {name: text}
    tag = next((text for name, text in out.items() if name.lower() == "etag"), None)
    if tag is not None and status == 200 and matches(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=out)
    return Response(body, status_code=status, headers=out, media_type=media_type or MEDIA_TYPES[answer_format(request)])


def matches(if_none_match: str, tag: str) -> bool:
    """The weak comparison of RFC 9110 section 8.8.3.2: a compressed answer's tag is the weak form of the same."""
    if if_none_match.strip() == "*":
        return True
    return any(given.strip().removeprefix("W/") == tag.removeprefix("W/") for given in if_none_match.split(","))


def _media_type(content_type: str) -> tuple[str, dict[str, str]]:
    name, *rest = content_type.lower().split(";")
    parameters = (parameter.partition("=") for parameter in rest)
    return name.strip(), {key.strip(): value.strip(' "') for key, _, value in parameters}
