"""Offline sync over HTTP: one round trip, and the schema that apps read."""

import asyncio
import time
from collections.abc import Mapping
from random import random
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import bodies
from fitness_api.errors import BodyTooLarge, MalformedBody
from fitness_api.identity.access_tokens import Principal
from fitness_api.operation import Operation
from fitness_api.resources import Resources
from sync import exchange, schema
from sync.changes import (
    MAX_CHANGES,
    MAX_REQUEST_BYTES,
    Delta,
    Format,
    Id,
    Limits,
    SyncRequest,
    SyncResponse,
    with_lone_surrogates_marked,
)
from sync.errors import BatchTooLarge
from sync.schema import Field


class Schema(Struct, frozen=True, kw_only=True):
    """Every collection's fields as this server knows them. What it does not know it keeps as sent."""

    version: int
    collections: Mapping[str, Mapping[str, Field]]


class Change(Struct, frozen=True, kw_only=True):
    """One document's registers under one stamp. Atomic: rejected whole, superseded path by path.

    What is wrong in a change is its own `rejected` and never the request's.
    """

    id: Annotated[Id, Meta(description="drawn by the device; names the result")]
    collection: Annotated[str, Meta(examples=["workouts"])]
    doc: Id
    stamp: Annotated[str, Meta(pattern="^[0-7][0-9a-f]{15}$", examples=["0cd0000000000001"])]
    set: Annotated[dict[str, Any], Meta(examples=[{"title": "Leg day", "tags/pr": True}], description="path → value")]
    base: (
        Annotated[int, Meta(ge=0, description="the document's `seq` as the device last had it; 0: new")] | UnsetType
    ) = UNSET


class RoundTrip(SyncRequest, frozen=True, kw_only=True):
    """`changes` up, everything new since `cursor` down. `collections` left out means all."""

    # As it is published. What is decoded is SyncRequest, whose changes stay bytes until each is checked by itself.
    changes: Annotated[list[Change], Meta(max_length=MAX_CHANGES)] = field(default_factory=list)  # type: ignore[assignment]


class RoundTripAnswer(SyncResponse, frozen=True, kw_only=True):
    """`results` in the order of the changes; `documents` with what is new of them; `cursor` for the next request."""

    documents: list[Delta]  # type: ignore[assignment]


_SCHEMA: Final = Schema(version=schema.VERSION, collections=schema.COLLECTIONS)


async def sync(request: Request[Resources], principal: Principal) -> Response:
    received = bodies.request_format(request)
    answered = bodies.answer_format(request)
    try:
        body = await bodies.read_bytes(request, limit_bytes=MAX_REQUEST_BYTES)
    except BodyTooLarge:
        raise BatchTooLarge(max_changes=MAX_CHANGES, max_bytes=MAX_REQUEST_BYTES) from None
    pacing = request.state["pacing"]
    with pacing.serving():
        response = await exchange.round_trip(
            request.state["sync_store"],
            await _decoded(body, received),
            user_id=principal.user_id,
            cursor_key=request.state["cursor_key"],
            received=received,
            answered=answered,
            now_ms=time.time_ns() // 1_000_000,
            limits=Limits(next_sync_after_s=pacing.next_after_s(random())),  # noqa: S311 - spreads devices, no more
        )
    encode = msgspec.json.encode if answered == "json" else msgspec.msgpack.encode
    return bodies.respond_bytes(request, encode(response))


async def _decoded(body: bytes, received: Format) -> SyncRequest:
    try:
        return bodies.decode(body, SyncRequest, body_format=received)
    except MalformedBody:
        # In a thread: a body of nothing but escapes takes a second.
        if received != "json" or (marked := await asyncio.to_thread(with_lone_surrogates_marked, body)) == body:
            raise
    return bodies.decode(marked, SyncRequest, body_format=received)


async def get_schema(request: Request[Resources], _principal: Principal) -> Response:
    return bodies.respond(request, _SCHEMA, headers={"Cache-Control": "private, max-age=3600"})


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/v1/sync",
        is_repeatable=True,
        handler=sync,
        tag="Sync",
        summary="Upload changes and download what is new, in one round trip",
        description=(
            "Changes are merged register by register: the greater stamp wins. Each has its own result, and one bad change "
            "never holds up the others. The upload is durable before the download is read. Send a lost request again: "
            "nothing is done twice. An empty cursor starts a snapshot, most recently changed documents first."
        ),
        login=True,
        scope="sync",
        body=RoundTrip,
        answers={200: RoundTripAnswer},
        problems=("batch_too_large", "unknown_device", "unavailable"),
        limits=("sync", "upload_kib"),
    ),
    Operation(
        method="GET",
        path="/v1/sync/schema",
        handler=get_schema,
        tag="Sync",
        summary="The collections and their fields, as this server knows them",
        login=True,
        scope="sync",
        answers={200: Schema},
    ),
)
