"""A device for benchmarks: round trips over one kept connection, at as little of the client's own processor as can be.

Where client and servers share a machine, what the client takes is lacking elsewhere: httpx takes ten times as much a request.
"""

import asyncio
import gzip
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import brotli
import httpx
import msgspec
import zstandard
from msgspec import UNSET, Raw, Struct, UnsetType

from bench.workload import Fields
from fitness_api import content_codings
from fitness_api.content_codings import Coding
from sync import clock
from sync.changes import Format
from sync.clock import Stamp

_JSON = {"content-type": "application/json"}
_LOADED_AT_ONCE = 1_000  # as many as a request takes


@dataclass(frozen=True)
class Installation:
    """A device that is logged in and registered."""

    url: str
    headers: dict[str, str]
    device_id: str
    replica: int


async def signed_up(http: httpx.AsyncClient, url: str) -> Installation:
    account = {"email": f"{uuid.uuid4()}@example.com", "password": "a long enough passphrase"}
    pair = (await http.post(f"{url}/v1/auth/register", json=account)).raise_for_status().json()
    return await _registered(http, url, {"authorization": f"Bearer {pair['access_token']}", **_JSON})


async def another_device(http: httpx.AsyncClient, first: Installation) -> Installation:
    """Return a second device of the same account."""
    return await _registered(http, first.url, first.headers)


async def _registered(http: httpx.AsyncClient, url: str, headers: dict[str, str]) -> Installation:
    device = {"installation_id": str(uuid.uuid4()), "platform": "android", "app_version": "1.0.0"}
    made = (await http.post(f"{url}/v1/devices", json=device, headers=headers)).raise_for_status().json()
    return Installation(url, headers, made["device_id"], made["replica"])


class Result(Struct):
    id: str
    status: str


class Given(Struct):
    collection: str
    id: str
    seq: int
    fields: dict[str, dict[str, Any]]


class Answer(Struct):
    results: list[Result]
    documents: list[Given]
    cursor: str
    more: bool
    reset: bool

    def all_applied(self, count: int) -> "Answer":
        """Raises AssertionError unless all of the request's changes were taken, as these are alone in what they write."""
        if len(self.results) != count or any(result.status != "applied" for result in self.results):
            raise AssertionError(f"{len(self.results)} results: {self.results[:3]}")
        return self


class _Change(Struct):
    id: str
    collection: str
    doc: str
    stamp: str
    base: int
    set: Fields


class _Request(Struct, omit_defaults=True):
    device_id: str
    cursor: str
    limit: int
    changes: Raw
    collections: list[str] | UnsetType = UNSET


class Form(NamedTuple):
    """How bodies travel, both ways."""

    format: Format = "json"
    coding: Coding | None = None

    def __str__(self) -> str:
        shown = "JSON" if self.format == "json" else self.format
        return shown if self.coding is None else f"{shown} + {self.coding}"


class Device:
    """Sends what it is given and follows the cursor; it holds no documents."""

    def __init__(self, installation: Installation, form: Form = Form()) -> None:  # noqa: B008 - immutable
        self.cursor = ""
        self.sent_bytes = 0  # of bodies, as they went over the wire
        self.received_bytes = 0
        self._installation = installation
        self._form = form
        self._codec = msgspec.json if form.format == "json" else msgspec.msgpack
        self._answer: Any = self._codec.Decoder(Answer)
        self._stamp = Stamp(0)
        coding = {"content-encoding": form.coding} if form.coding else {}
        self._connection = Connection(
            installation.url,
            {
                "authorization": installation.headers["authorization"],
                "content-type": "application/json" if form.format == "json" else "application/msgpack",
                "accept-encoding": form.coding or "identity",
                **coding,
            },
        )

    def encoded(self, changes: Iterable[tuple[str, Fields]]) -> bytes:
        """Return workouts' changes under stamps of now, for `round_trip`. `base` is 0, as of any document not yet downloaded."""
        sent = []
        for name, fields in changes:
            now_ms = time.time_ns() // 1_000_000
            self._stamp = clock.tick(self._stamp, now_ms=now_ms, replica=self._installation.replica)
            sent.append(_Change(str(uuid.uuid4()), "workouts", name, clock.to_wire(self._stamp), 0, fields))
        return bytes(self._codec.encode(sent))

    async def round_trip(self, changes: bytes = b"", *, limit: int = 500, downloads: bool = True) -> Answer:
        """`downloads` false: upload only, as a device that wants no collection."""
        request = _Request(
            self._installation.device_id,
            self.cursor if downloads else "",
            limit,
            Raw(changes or self._codec.encode([])),
            UNSET if downloads else [],
        )
        body = self._codec.encode(request)
        if self._form.coding is not None:
            body = content_codings.encode(self._form.coding, body)
        received = await self._connection.post("/v1/sync", body)
        self.sent_bytes += len(body)
        self.received_bytes += len(received.body)
        answer: Answer = self._answer.decode(_decoded(received))
        if answer.reset:
            raise AssertionError("The cursor was refused.")
        if downloads:
            self.cursor = answer.cursor
        return answer

    async def pull(self, *, limit: int = 1_000) -> int:
        """Download a run to its end. Return how many documents it gave."""
        count, more = 0, True
        while more:
            answer = await self.round_trip(limit=limit)
            count, more = count + len(answer.documents), answer.more
        return count

    def close(self) -> None:
        self._connection.close()


async def load(device: Device, changes: Sequence[tuple[str, Fields]]) -> None:
    """Upload without measuring, in the biggest batches."""
    for begin in range(0, len(changes), _LOADED_AT_ONCE):
        batch = changes[begin : begin + _LOADED_AT_ONCE]
        answer = await device.round_trip(device.encoded(batch), downloads=False)
        answer.all_applied(len(batch))


class Received(NamedTuple):
    body: bytes
    coding: str


class Connection:
    """HTTP/1.1, one request at a time, bodies of known length: what the gateway answers with."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._address = host, int(port)
        self._headers = "".join(f"{name}: {text}\r\n" for name, text in {"host": host, **headers}.items())
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> Received:
        if self._streams is None or self._streams[0].at_eof():  # the server ends a connection that rested too long
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        head = f"POST {path} HTTP/1.1\r\n{self._headers}content-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
        received = await reader.readexactly(int(headers["content-length"]))
        if status.split(" ")[1] != "200":
            raise AssertionError(f"{status}: {received[:500]!r}")
        return Received(received, headers.get("content-encoding", ""))

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


def _decoded(received: Received) -> bytes:
    match received.coding:
        case "gzip":
            return gzip.decompress(received.body)
        case "zstd":
            return zstandard.ZstdDecompressor().decompress(received.body)
        case "br":
            return bytes(brotli.decompress(received.body))
        case _:
            return received.body
