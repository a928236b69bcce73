"""What can go wrong with a request on its way, or in the head of whoever wrote the client, or on purpose."""

import gzip
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any, Final

import brotli
import msgspec
import zstandard
from msgspec import Raw

from sync.document import MAX_PATHS
from tests.fuzz.valid import NUMBERS, TEXTS

Format = str

# Fragments that no encoder of ours would write, as they stand in the text.
_JSON_ODD: Final = tuple(
    map(
        bytes,
        (
            b"NaN", b"-NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1e-999", b"1" + b"0" * 400, b"7" * 5_000, b"0." + b"1" * 5_000, b"-" + b"9" * 30,
            b"9007199254740993", b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"01", b"-", b"-0",
            b"1.", b".5", b"0x10", b"1E400", b"true1", b"nul", b"''", b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"',
            b'"\\u0000"', b'"\\x41"', b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xf4\x90\x80\x80"', b'"a\nb"', b'"\x00"',
            b'{"a":1,"a":2}', b'{"\\u0061":1,"a":2}', b'{"a":{"b":1,"b":1}}', b'{"\\ud800":1}', b"{1:2}", b"[1,]", b"[,]", b"{,}",
            b"/**/1", b"[" * 99 + b"]" * 99, b"[" * 101 + b"]" * 101, b'{"a":' * 101 + b"1" + b"}" * 101, b"[" * 1100 + b"]" * 1100,
            b'"' + b"\\u0001" * 3_000 + b'"', b"[" + b"1e300," * 2_000 + b"1]", b'"\xe2\x80\xa8"', b'"\xef\xbb\xbf"',
        ),
    )
)  # fmt: skip
_MSGPACK_ODD: Final = (
    b"\xca\x7f\xc0\x00\x00", b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", b"\xcb\xff\xf8\x00\x00\x00\x00\x00\x00", b"\xc1",
    b"\xcf" + b"\xff" * 8, b"\xcf\x80" + b"\x00" * 7, b"\xd3\x80" + b"\x00" * 7, b"\xd3" + b"\xff" * 8, b"\xcf\x00\x20\x00\x00\x00\x00\x00\x01",
    b"\xc4\x01a", b"\xc4\x00", b"\xc6\xff\xff\xff\xff", b"\xd4\x05x", b"\xc7\x00\x01", b"\xd6\xff\x00\x00\x00\x00", b"\xd7\xff" + b"\xff" * 8,
    b"\xc7\x0c\xff" + b"\x00" * 12, b"\xd8\x7f" + b"\x00" * 16, b"\xa1\xff", b"\xa3\xed\xa0\x80", b"\xa2\xc0\x80", b"\xa1\x00", b"\xd9\x01a",
    b"\xda\x00\x01a", b"\xdb\x00\x00\x00\x01a", b"\xdb\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff",
    b"\xdc\x00\x01\x01", b"\xde\x00\x01\xa1a\x01", b"\x82\xa1a\x01\xa1a\x02", b"\x82\xa1a\x01\xd9\x01a\x02", b"\x81\x01\x02",
    b"\x81\xc0\x01", b"\x81\xc3\x01", b"\x81\x90\x01", b"\x81\x80\x01", b"\x81\xc4\x01a\x01", b"\x81\xcb\x7f\xf8" + b"\x00" * 6 + b"\x01",
    b"\x82\x01\x02\xc3\x01", b"\x82\xa1a\x01\x01\x01", b"\x81\xd6\xff\x00\x00\x00\x00\x01", b"\x81\xa1a\x81\x01\x01", b"\xcd\x00\x01", b"\xd0\x01", b"\xcb" + b"\x80" + b"\x00" * 7,
    b"\x91" * 99 + b"\x01", b"\x91" * 101 + b"\x01", b"\x81\xa1a" * 101 + b"\x01", b"\x91" * 1100 + b"\x01", b"\xca\x3f\x80\x00\x00",
)  # fmt: skip
_KEYS: Final = (
    "", " ", ".", "..", "$", "$set", "a.b", "/", "//", "a/", "/a", "a//b", "a/b/c/d", "a/b/c/d/e", "~", "~2", "~0", "~1/~0", "a~",
    "x" * 128, "x" * 129, "x/" + "é" * 128, "😀" * 128, "😀" * 129, "\0", "a\0", "a\nb", "title\ndeleted", "title\nnotes", "sets", "sets/x",
    "sets/a/b/c", "tags", "tags/a/b", "deleted", "deleted/x", "title/x", "water_ml", "water_ml/1", "water_ml/0", "water_ml/01", "water_ml/4096",
    "water_ml/-1", "water_ml/\u0661", "water_ml/1/2", "progress/²", "id", "_id", "__class__", "\u2028", "\ufeff", "x" * 20_000, "sets/\n/a",
    "laps/a/\n", "tags/\n", "tracks/x", ":", 'a":1,"b', "\\", "\\u003a",
)  # fmt: skip
_ODD_TYPES: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**63 - 1,
    2**63,
    -(2**63),
    1.5,
    "",
    "x",
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"a": {"b": []}},
)


def structure(value: Any, dice: Random, name: Format) -> Any:
    """Change one to three places of a request."""
    value = _copied(value)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        places: list[tuple[Any, Any]] = []
        _collect(value, places)
        if not places:
            return _odd(dice, name)
        holder, key = dice.choice(places)
        dice.choice(_OPERATIONS)(holder, key, dice, name)
    return value


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        places.append((value, key))
        _collect(item, places)


def _odd(dice: Random, name: Format) -> Any:
    kind = dice.random()
    if kind < 0.4:
        return Raw(dice.choice(_JSON_ODD if name == "json" else _MSGPACK_ODD))
    if kind < 0.6:
        return _copied(dice.choice(_ODD_TYPES))
    if kind < 0.75:
        return dice.choice(TEXTS)
    if kind < 0.85:
        return dice.choice(NUMBERS)
    if kind < 0.93:
        return _nested(dice.choice((5, 98, 99, 100, 101, 102)), dice)
    if kind < 0.95:
        return _deep(dice, name)
    return ["x" * dice.choice((10, 16_370, 16_380, 17_000))] * dice.choice((1, 1, 2))


def _deep(dice: Random, name: Format) -> Raw:
    """Nested about as deep as the interpreter's stack is, from which each decoder has another distance."""
    depth = dice.randrange(800, 1_010)
    if name == "msgpack":
        return Raw(dice.choice((b"\x91", b"\x81\xa1a")) * depth + b"\x01")
    return Raw(dice.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth)))


def _nested(depth: int, dice: Random) -> Any:
    inner: Any = dice.choice((1, None, "x", [], {}))
    is_list = dice.random() < 0.5
    for _ in range(depth):
        inner = [inner] if is_list else {"a": inner}
    return inner


def _replace(holder: Any, key: Any, dice: Random, name: Format) -> None:
    holder[key] = _odd(dice, name)


def _drop(holder: Any, key: Any, dice: Random, name: Format) -> None:
    del holder[key]


def _double(holder: Any, key: Any, dice: Random, name: Format) -> None:
    if isinstance(holder, list):
        holder[key:key] = [holder[key]] * dice.choice((1, 1, 2, 30))
    else:
        holder[dice.choice(_KEYS)] = holder[key]


def _rename(holder: Any, key: Any, dice: Random, name: Format) -> None:
    if isinstance(holder, dict):
        holder[dice.choice(_KEYS)] = holder.pop(key)


def _wrap(holder: Any, key: Any, dice: Random, name: Format) -> None:
    holder[key] = dice.choice(([holder[key]], {"a": holder[key]}, [holder[key], holder[key]]))


def _retype(holder: Any, key: Any, dice: Random, name: Format) -> None:
    value = holder[key]
    if isinstance(value, str):
        holder[key] = dice.choice(
            (value.upper(), value[:-1], value + "x", value[::-1], value + "\n", " " + value, [*value[:50]], len(value))
        )
    elif isinstance(value, list):
        holder[key] = dict.fromkeys(map(str, range(len(value))), 1)
    elif isinstance(value, dict):
        holder[key] = [*value.values()]
    elif value is not None and not isinstance(value, Raw):
        holder[key] = dice.choice(
            (str(value), float(value), int(value) if abs(value) < 1e300 else 0, -value, value * 2**10, not value)
        )


def _swap(holder: Any, key: Any, dice: Random, name: Format) -> None:
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    other = dice.choice(keys)
    holder[key], holder[other] = holder[other], holder[key]


def _twice(holder: Any, key: Any, dice: Random, name: Format) -> None:
    """An object of which a key comes twice, which our encoders would not write."""
    target = holder[key]
    if not isinstance(target, dict) or not target:
        return
    encode = msgspec.json.encode if name == "json" else msgspec.msgpack.encode
    again, value = dice.choice([*target.items()])
    pairs = [*target.items(), (again, dice.choice((value, _odd(dice, name))))]
    dice.shuffle(pairs)
    if name == "json":
        holder[key] = Raw(b"{" + b",".join(encode(one) + b":" + encode(other) for one, other in pairs) + b"}")
    elif len(pairs) < 16:
        holder[key] = Raw(bytes([0x80 | len(pairs)]) + b"".join(encode(one) + encode(other) for one, other in pairs))


def _flood(holder: Any, key: Any, dice: Random, name: Format) -> None:
    """Many of something: paths, members, elements."""
    if dice.random() < 0.8:
        return
    count = dice.choice((50, 50, 400, MAX_PATHS, MAX_PATHS + 1))
    if isinstance(holder, dict):
        prefix = dice.choice(("f", "tags/", "sets/x/", "x/"))
        holder.update({f"{prefix}{number}": dice.choice((True, 1, "x" * 120)) for number in range(count)})
    else:
        holder[key:key] = [holder[key]] * min(count, 1_000_000 // (1 + len(repr(holder[key]))))


_OPERATIONS: Final[tuple[Callable[[Any, Any, Random, Format], None], ...]] = (
    _replace, _replace, _replace, _replace, _drop, _double, _rename, _rename, _wrap, _retype, _retype, _swap, _twice, _flood,
)  # fmt: skip


def octets(body: bytes, dice: Random, others: list[bytes], name: Format) -> bytes:
    """Flip, cut, repeat, insert, or splice with another body, one to four times."""
    for _ in range(dice.choice((1, 1, 2, 4))):
        at = dice.randrange(len(body) + 1)
        to = min(len(body), at + dice.choice((1, 1, 2, 8, 64, 1_000)))
        match dice.randrange(8):
            case 0 | 1 if at < len(body):
                body = body[:at] + bytes([body[at] ^ 1 << dice.randrange(8)]) + body[at + 1 :]
            case 2:
                body = body[:at]
            case 3:
                body = body[:at] + body[to:]
            case 4:
                body = body[:to] + body[at:to] * dice.choice((1, 2, 50)) + body[to:]
            case 5:
                odd = dice.choice(_JSON_ODD if name == "json" else _MSGPACK_ODD)
                body = body[:at] + odd + body[dice.choice((at, to)) :]
            case 6 if others:
                other = dice.choice(others)
                start = dice.randrange(len(other) + 1)
                body = body[:at] + other[start : start + dice.choice((4, 40, 4_000))] + body[to:]
            case _:
                body = body[:at] + dice.randbytes(dice.choice((1, 4, 32))) + body[to:]
    return body[: 2**20]


def encoded(value: Any, name: Format) -> bytes:
    try:
        return msgspec.json.encode(value) if name == "json" else msgspec.msgpack.encode(value)
    except (
        OverflowError,
        UnicodeEncodeError,
        RecursionError,
    ):  # mutated twice, it may be what our encoder does not write
        return b"\xc0"


def compressed(body: bytes, coding: str) -> bytes:
    match coding:
        case "gzip" | "x-gzip":
            return zlib.compress(body, 1, wbits=31)
        case "zstd":
            return zstandard.ZstdCompressor(level=1).compress(body)
        case "br":
            return bytes(brotli.compress(body, quality=1))
        case _:
            return body


@cache
def bombs() -> tuple[tuple[bytes, bytes], ...]:
    """Small bodies that would be large, with the coding that each is sent under."""
    plain = b'{"device_id":"' + b"0" * (64 * 1024 * 1024)
    once = gzip.compress(plain, 9)
    many = b"".join(gzip.compress(b"") for _ in range(1_100))
    return (
        (once, b"gzip"),
        (gzip.compress(once, 9), b"gzip, gzip"),
        (zstandard.ZstdCompressor(level=1).compress(plain), b"zstd"),
        (bytes(brotli.compress(plain, quality=1)), b"br"),
        (bytes(brotli.compress(zstandard.ZstdCompressor(level=1).compress(plain), quality=1)), b"zstd, br"),
        (many, b"gzip"),
        (zstandard.ZstdCompressor().compress(b"") * 1_100, b"zstd"),
        (b"\x50\x2a\x4d\x18\xff\xff\xff\x7f" + b"\0" * 1_000, b"zstd"),  # a frame to be skipped, of 2 GiB
        (b"\x1f\x8b\x08\x08" + b"\0" * 6 + b"n" * 5_000, b"gzip"),  # a file's name without an end
        (
            zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=27)).compress(
                b"{}" * 4_000
            ),
            b"zstd",
        ),
    )


_CONTENT_TYPES: Final = (
    b"", b"application/json", b"application/json; charset=utf-8", b"application/json;charset=UTF8", b'application/json; charset="utf-8"',
    b"application/json; charset=latin-1", b"APPLICATION/JSON", b" application/json ;;;", b"application/json, application/msgpack",
    b"application/msgpack", b"application/msgpack; charset=utf-8", b"application/x-msgpack", b"text/plain", b"application/x-www-form-urlencoded",
    b"multipart/form-data; boundary=x", b"\xff\xfe", b"application/json;" + b"a=b;" * 200, b"*/*", b"application/vnd.api+json",
)  # fmt: skip
_ACCEPTS: Final = (
    b"", b"*/*", b"application/*", b"application/json", b"application/msgpack", b"application/json;q=0", b"application/msgpack;q=0.5, */*;q=0.1",
    b"application/json;q=0, */*", b"text/html", b"application/problem+json", b"application/json;q=2", b"application/json;q=x", b"application/json;q=nan",
    b"application/json;q=1e400", b"application/json;q=", b",,,", b";q=1", b"application/json;q=0.001;q=0", b"*/*;q=0", b"\xff", b"a" * 4_000,
    b"application/json," * 300, b"APPLICATION/MSGPACK", b"application/json; charset=utf-8",
)  # fmt: skip
_ACCEPT_ENCODINGS: Final = (
    b"", b"gzip", b"br", b"zstd", b"gzip, br, zstd", b"*", b"*;q=0", b"identity;q=0", b"identity;q=0, *;q=0", b"gzip;q=0", b"x-gzip", b"gzip;q=nan",
    b"br;q=0.5, gzip;q=0.7", b"deflate", b"\xff", b"zstd;q=1e309", b"gzip;;;q=1", b"GZIP",
)  # fmt: skip
_CODINGS: Final = (
    b"gzip", b"br", b"zstd", b"deflate", b"identity", b"gzip, gzip", b"gzip, br, zstd", b"x-gzip", b"GZIP", b"", b"gzip,", b"\xff", b"identity, identity",
    b"zstd;q=1",
)  # fmt: skip
_LENGTHS: Final = (
    b"0",
    b"1",
    b"4194304",
    b"4194305",
    b"99999999999999999999",
    b"9" * 5_000,
    b"-1",
    b"x",
    b"",
    b"1e3",
    b"\xb2",
    b"+5",
    b"0x10",
    b" 7",
    b"5, 5",
)
_OTHERS: Final = (
    (b"x-request-id", b"a" * 8), (b"x-request-id", b"a" * 129), (b"x-request-id", b"bad id\xff"), (b"x-request-id", b""), (b"traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"),
    (b"traceparent", b"ff-" + b"0" * 32), (b"traceparent", b"\xff" * 60), (b"if-none-match", b"*"), (b"if-none-match", b'W/"x", "y"'), (b"if-none-match", b"\xff,"),
    (b"idempotency-key", b"k"), (b"expect", b"100-continue"), (b"range", b"bytes=0-1"), (b"host", b"\xff"), (b"cookie", b"a=b; " * 100), (b"x-forwarded-for", b"::1"),
    (b"transfer-encoding", b"chunked"), (b"user-agent", b"\xff" * 300), (b"authorization", b"Bearer"), (b"authorization", b"bearer x.y.z"), (b"authorization", b"Basic \xff"),
    (b"authorization", b"Bearer " + b"e" * 9_000), (b"authorization", b"Bearer \xe2\x98\x83"), (b"authorization", b"Bearer e30.e30.e30"),
)  # fmt: skip

Headers = tuple[tuple[bytes, bytes], ...]


def headers(given: Headers, dice: Random) -> tuple[Headers, bool]:
    """Return the headers with one to three of them made odd, and whether our own token still goes with them."""
    out = [*given]
    has_token = True
    for _ in range(dice.choice((1, 1, 2, 3))):
        name, value = dice.choice(
            (
                (b"content-type", dice.choice(_CONTENT_TYPES)),
                (b"accept", dice.choice(_ACCEPTS)),
                (b"accept-encoding", dice.choice(_ACCEPT_ENCODINGS)),
                (b"content-encoding", dice.choice(_CODINGS)),
                (b"content-length", dice.choice(_LENGTHS)),
                dice.choice(_OTHERS),
            )
        )
        if dice.random() < 0.75:
            out = [(known, held) for known, held in out if known != name]
        if dice.random() < 0.9:
            out.insert(dice.randrange(len(out) + 1), (name, value))
        if name == b"authorization":
            has_token = False
    return tuple(out), has_token


def query(dice: Random, pages: list[str]) -> bytes:
    cursors = (
        b"",
        b"=",
        b"x",
        b"!!!",
        b"%ff",
        b"%00",
        b"%E2%98%83",
        b"a" * 5_000,
        b"MQ",
        b"MS8",
        b"LTEvMA",
        *(page.encode() for page in pages[-5:]),
    )
    numbers = ("0", "-1", "9" * 30, "9" * 1_000, "1", str(2**63), str(2**63 - 1), "1_000", " 5 ", "\u0665", "1e5", "")
    made = f"{dice.choice(numbers)}/{dice.choice(('00000000-0000-4000-8000-000000000000', 'x', '', '{00000000-0000-4000-8000-000000000000}'))}"
    cursor = dice.choice((dice.choice(cursors), _in_base64(made)))
    limit = dice.choice(
        (b"0", b"1", b"2", b"100", b"101", b"-1", b"x", b"", b"99999", b"%D9%A1", b"1.0", b"+1", b"%00")
    )
    parts = dice.sample(
        [
            b"cursor=" + cursor,
            b"limit=" + limit,
            b"limit=3",
            b"x=%zz",
            b"&&",
            b"points=" + limit,
            b"streams=rr,power,,",
        ],
        dice.randint(0, 3),
    )
    return b"&".join(parts)


def _in_base64(text: str) -> bytes:
    return urlsafe_b64encode(text.encode()).rstrip(b"=")
