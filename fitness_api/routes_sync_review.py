"""What was refused and what lost, for the user to look at and to bring back; and the repair of a device that diverged."""

import asyncio
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import bodies
from fitness_api.errors import Invalid, InvalidBody, NotFound
from fitness_api.identity.access_tokens import Principal
from fitness_api.operation import Operation, Parameter
from fitness_api.resources import Resources
from fitness_api.review_entries import ConflictEntry, RejectedEntry, of_conflict, of_rejected
from sync import digest, repair, review
from sync.changes import Delta, Result
from sync.errors import StoreUnavailable
from sync.log import Place
from sync.schema import COLLECTIONS

MAX_ENTRIES: Final = 100  # a screen or two
_BODY_LIMIT_BYTES: Final = 4096
_PATIENCE_S: Final = 5.0
_COME_AGAIN_S: Final = 10
_MAX_PLACE: Final = 2**53  # no moment and no sequence is beyond it, and no database's integer either

CollectionName = Annotated[str, Meta(examples=["workouts"])]


class RejectedEntries(Struct, frozen=True, kw_only=True):
    """The newest first. `cursor`: for the next page, null at the end."""

    rejected: list[RejectedEntry]
    cursor: str | None


class RetryAnswer(Struct, frozen=True, kw_only=True):
    """As in the answer of `POST /v1/sync`. Unless it is `rejected`, the entry is gone."""

    result: Result


class Conflicts(Struct, frozen=True, kw_only=True):
    """The newest first. `cursor`: for the next page, null at the end."""

    conflicts: list[ConflictEntry]
    cursor: str | None


class DigestRequest(Struct, frozen=True, kw_only=True):
    collection: CollectionName
    buckets: Literal[256] = 256


class DigestAnswer(Struct, frozen=True, kw_only=True):
    """`digests[n]` is the sum over the documents whose id's SHA-256 begins with byte n."""

    collection: str
    digests: list[str]


class FetchRequest(Struct, frozen=True, kw_only=True):
    """`after`: where the page before ended; left out for the first."""

    collection: CollectionName
    bucket: Annotated[int, Meta(ge=0, lt=digest.BUCKETS)]
    after: Annotated[int, Meta(ge=0, le=_MAX_PLACE)] = 0


class FetchAnswer(Struct, frozen=True, kw_only=True):
    """Documents of one bucket with all of their registers. While there is `more`, ask again with `after`."""

    documents: list[Delta]
    more: bool
    after: int | UnsetType = UNSET


async def get_rejected(request: Request[Resources], principal: Principal) -> Response:
    below, limit = _asked_place(request), _asked_limit(request)
    found, has_more = await request.state["sync_log"].rejected(principal.user_id, below=below, limit=limit)
    cursor = _cursor(found[-1].received_ms, found[-1].id) if has_more else None
    entries = RejectedEntries(rejected=[of_rejected(one) for one in found], cursor=cursor)
    return bodies.respond(request, entries, headers=_PRIVATE)


async def retry_rejected(request: Request[Resources], principal: Principal) -> Response:
    result = await review.retry(
        request.state["sync_store"],
        request.state["sync_log"],
        principal.user_id,
        request.path_params["id"],
        now_ms=_now_ms(),
    )
    if result is None:
        raise NotFound("rejected change")
    return bodies.respond(request, RetryAnswer(result=result))


async def get_conflicts(request: Request[Resources], principal: Principal) -> Response:
    below, limit = _asked_place(request), _asked_limit(request)
    found, has_more = await request.state["sync_log"].conflicts(
        principal.user_id, below=below, limit=limit, now_ms=_now_ms()
    )
    cursor = _cursor(found[-1].at_ms, found[-1].id) if has_more else None
    entries = Conflicts(conflicts=[of_conflict(one) for one in found], cursor=cursor)
    return bodies.respond(request, entries, headers=_PRIVATE)


async def restore_conflict(request: Request[Resources], principal: Principal) -> Response:
    restored = await review.restore(
        request.state["sync_store"],
        request.state["sync_log"],
        principal.user_id,
        request.path_params["id"],
        now_ms=_now_ms(),
    )
    if restored is None:
        raise NotFound("conflict")
    return bodies.respond(request, of_conflict(restored))


async def post_digest(request: Request[Resources], principal: Principal) -> Response:
    asked = await bodies.read(request, DigestRequest, limit_bytes=_BODY_LIMIT_BYTES)
    _check_collection(asked.collection)
    async with _place(request.state["sync_repairs"]):
        sums = await repair.digests(request.state["sync_store"], principal.user_id, asked.collection)
    return bodies.respond(
        request, DigestAnswer(collection=asked.collection, digests=[digest.to_wire(one) for one in sums])
    )


async def post_fetch(request: Request[Resources], principal: Principal) -> Response:
    asked = await bodies.read(request, FetchRequest, limit_bytes=_BODY_LIMIT_BYTES)
    _check_collection(asked.collection)
    answered = bodies.answer_format(request)
    async with _place(request.state["sync_repairs"]):
        fetched = await repair.fetch(
            request.state["sync_store"],
            principal.user_id,
            asked.collection,
            asked.bucket,
            after=asked.after,
            answered=answered,
        )
    answer: dict[str, Any] = {"documents": fetched.documents, "more": fetched.after is not None}
    if fetched.after is not None:
        answer["after"] = fetched.after
    encode = msgspec.json.encode if answered == "json" else msgspec.msgpack.encode
    return bodies.respond_bytes(request, encode(answer))


@asynccontextmanager
async def _place(places: asyncio.Semaphore) -> AsyncIterator[None]:
    """Raises StoreUnavailable if none becomes free in time: each repair reads much, and whoever waits holds a connection."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await places.acquire()
    except TimeoutError:
        raise StoreUnavailable("Many devices are being repaired.", retry_after_s=_COME_AGAIN_S) from None
    try:
        yield
    finally:
        places.release()


def _check_collection(name: str) -> None:
    if name not in COLLECTIONS:
        raise InvalidBody(Invalid("/collection", f"There are: {', '.join(COLLECTIONS)}."))


def _cursor(at_ms: int, entry_id: str) -> str:
    return urlsafe_b64encode(f"{at_ms}/{entry_id}".encode()).decode().rstrip("=")


def _asked_place(request: Request[Resources]) -> Place | None:
    asked = request.query_params.get("cursor")
    if not asked:
        return None
    try:
        at, _, entry_id = urlsafe_b64decode(asked + "=" * (-len(asked) % 4)).decode().partition("/")
        place: Place | None = Place(int(at), str(UUID(entry_id)))
    except ValueError:
        place = None
    if place is None or not 0 <= place.at_ms <= _MAX_PLACE:
        raise InvalidBody(Invalid("", "cursor: not one that this list gave."))
    return place


def _asked_limit(request: Request[Resources]) -> int:
    asked = request.query_params.get("limit", str(MAX_ENTRIES))
    limit = int(asked) if asked.isascii() and asked.isdigit() and len(asked) <= 4 else 0
    if not 1 <= limit <= MAX_ENTRIES:
        raise InvalidBody(Invalid("", f"limit: an integer from 1 to {MAX_ENTRIES}."))
    return limit


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


_PRIVATE: Final = {"Cache-Control": "private, no-cache"}

_PAGING: Final = (
    Parameter(name="cursor", where="query", description="The `cursor` of the page before."),
    Parameter(
        name="limit",
        where="query",
        description=f"Entries a page at most, {MAX_ENTRIES} if left out.",
        type=Annotated[int, Meta(ge=1, le=MAX_ENTRIES)],
    ),
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="GET",
        path="/v1/sync/rejected",
        handler=get_rejected,
        tag="Sync",
        summary="Changes that were refused",
        description="What was refused is kept as it came, for the user and for support. A change that is sent again makes no second entry.",
        login=True,
        scope="sync",
        parameters=_PAGING,
        answers={200: RejectedEntries},
        problems=("invalid_body", "unavailable"),
    ),
    Operation(
        method="POST",
        path="/v1/sync/rejected/{id}/retry",
        is_repeatable=True,
        handler=retry_rejected,
        tag="Sync",
        summary="Merge a refused change again, as it came",
        description="Once it is accepted it leaves the quarantine; refused again, it stays.",
        login=True,
        scope="sync",
        parameters=(Parameter(name="id", where="path", description="The entry's id.", type=UUID, required=True),),
        answers={200: RetryAnswer},
        problems=("not_found", "unavailable"),
    ),
    Operation(
        method="GET",
        path="/v1/sync/conflicts",
        handler=get_conflicts,
        tag="Sync",
        summary="Values that lost to a writer who had not seen them",
        description="Kept for 30 days. Only changes that tell their `base` are looked at.",
        login=True,
        scope="sync",
        parameters=_PAGING,
        answers={200: Conflicts},
        problems=("invalid_body", "unavailable"),
    ),
    Operation(
        method="POST",
        path="/v1/sync/conflicts/{id}/restore",
        handler=restore_conflict,
        tag="Sync",
        summary="Bring back a value that lost",
        description="It is written under the account's clock, over what is there now, and reaches every device by sync.",
        login=True,
        scope="sync",
        parameters=(Parameter(name="id", where="path", description="The conflict's id.", type=UUID, required=True),),
        answers={200: ConflictEntry},
        problems=("not_found", "document_purged", "document_full", "unavailable"),
    ),
    Operation(
        method="POST",
        path="/v1/sync/digest",
        is_repeatable=True,
        handler=post_digest,
        tag="Sync",
        summary="The sums of a collection's buckets",
        description="For a device whose own sum differs from `digests`: compare bucket by bucket, then fetch those that differ.",
        login=True,
        scope="sync",
        body=DigestRequest,
        answers={200: DigestAnswer},
        problems=("unavailable",),
    ),
    Operation(
        method="POST",
        path="/v1/sync/fetch",
        is_repeatable=True,
        handler=post_fetch,
        tag="Sync",
        summary="All documents of one bucket",
        description="What the device held of the bucket is reconciled with them as after a reset.",
        login=True,
        scope="sync",
        body=FetchRequest,
        answers={200: FetchAnswer},
        problems=("unavailable",),
    ),
)
