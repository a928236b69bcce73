"""Workouts for clients that don't sync: the same documents, through the same merge; and a workout as a file or a picture."""

import asyncio
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid4

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from fitness_api import bodies
from fitness_api.errors import Invalid, InvalidBody, NotFound
from fitness_api.export import track_files
from fitness_api.identity.access_tokens import Principal
from fitness_api.operation import Media, Operation, Parameter
from fitness_api.resources import Resources
from fitness_api.statistics import charts
from fitness_api.workouts import exports, fit_writer, tcx_writer
from fitness_api.workouts.errors import NotExportable
from fitness_api.workouts.recording import Session
from sync import changes, edit, tracks
from sync.document import MAX_DOCUMENT_BYTES, Document, Key, read
from sync.listing import Began
from sync.patch import PatchInvalid
from sync.schema import SPORTS
from sync.track_store import COLLECTION
from sync.tracks import STREAMS, Chunk, Stream

MAX_WORKOUTS: Final = 100  # a page
DEFAULT_WORKOUTS: Final = 20

# As many as the picture is wide.
CHART_POINTS: Final = 900

BODY_LIMIT_BYTES: Final = 2 * MAX_DOCUMENT_BYTES  # names of paths and the like are shorter at rest

_SVG: Final = "image/svg+xml"
_TYPES: Final = {
    "gpx": "application/gpx+xml",
    "tcx": "application/vnd.garmin.tcx+xml",
    "fit": "application/vnd.ant.fit",
}
_PIECE_BYTES: Final = 64 * 1024

Sport = Literal["run", "ride", "swim", "walk", "hike", "row", "strength", "yoga", "hiit", "other"]
assert set(SPORTS) == set(Sport.__args__)  # type: ignore[attr-defined]


class WorkoutList(Struct, frozen=True, kw_only=True):
    """The latest began first; those without a `started_at` come last. `cursor`: for the next page, null at the end."""

    workouts: list[dict[str, Any]]
    cursor: str | None


async def get_workouts(request: Request[Resources], principal: Principal) -> Response:
    sport = request.query_params.get("sport")
    if sport is not None and sport not in SPORTS:
        raise InvalidBody(Invalid("", f"sport: there are: {', '.join(SPORTS)}."))
    page = await request.state["listing"].began(
        principal.user_id,
        sport=sport,
        since=_asked_instant(request, "from"),
        before=_asked_instant(request, "to"),
        below=_asked_place(request),
        limit=_asked_limit(request),
    )
    cursor = _cursor(page.workouts[-1]) if page.has_more else None
    return bodies.respond(
        request, WorkoutList(workouts=[shown(one) for one in page.workouts], cursor=cursor), headers=_PRIVATE
    )


async def post_workout(request: Request[Resources], principal: Principal) -> Response:
    given = await _given(request)
    workout_id = given.pop("id", None) or str(uuid4())
    if not changes.is_uuid(workout_id):
        raise InvalidBody(Invalid("/id", "This is a lower-case UUID."))
    try:
        made = await edit.create(
            request.state["sync_store"],
            principal.user_id,
            Key(COLLECTION, workout_id),
            given,
            now_ms=_now_ms(),
            new_id=_new_id,
        )
    except PatchInvalid as error:
        raise InvalidBody(Invalid(error.pointer, str(error))) from error
    headers = {"Location": f"/v1/workouts/{workout_id}"}
    return bodies.respond(request, shown(made.document), status=201 if made.is_new else 200, headers=headers)


async def get_workout(request: Request[Resources], principal: Principal) -> Response:
    return bodies.respond(request, shown(await _found(request, principal)), headers=_PRIVATE)


async def patch_workout(request: Request[Resources], principal: Principal) -> Response:
    given, key = await _given(request), Key(COLLECTION, request.path_params["id"])
    if given.pop("id", key.id) != key.id:
        raise InvalidBody(Invalid("/id", "A document keeps its id."))
    try:
        changed = await edit.change(
            request.state["sync_store"], principal.user_id, key, given, now_ms=_now_ms(), new_id=_new_id
        )
    except PatchInvalid as error:
        raise InvalidBody(Invalid(error.pointer, str(error))) from error
    return bodies.respond(request, shown(changed.document))


async def delete_workout(request: Request[Resources], principal: Principal) -> Response:
    key = Key(COLLECTION, request.path_params["id"])
    await edit.delete(request.state["sync_store"], principal.user_id, key, now_ms=_now_ms())
    return Response(status_code=204)


async def export_workout(request: Request[Resources], principal: Principal) -> Response:
    file_format = request.query_params.get("format")
    if file_format not in _TYPES:
        raise InvalidBody(Invalid("", f"format: one of {', '.join(_TYPES)}."))
    document = await _found(request, principal)
    headers = {
        "Content-Disposition": f'attachment; filename="{document.key.id}.{file_format}"',
        "Cache-Control": "private, no-store",
    }
    if file_format == "gpx":
        text = track_files.gpx_text(request.state["tracks"], principal.user_id, document.key.id, read(document))
        first = await anext(text, None)
        if first is None:
            raise NotExportable("The workout has no positions, and a GPX track is made of them; take TCX or FIT.")
        return StreamingResponse(_rest(first, text), headers=headers, media_type=_TYPES["gpx"])
    async with request.state["track_reads"]:
        session = await _session(request, principal, document)
        if file_format == "fit":
            offset_s = document.values.get("utc_offset_s")
            file = await asyncio.to_thread(
                fit_writer.written, session, utc_offset_s=offset_s if type(offset_s) is int else None
            )
        else:
            device = document.values.get("source_device")
            file = await asyncio.to_thread(_tcx, session, device if isinstance(device, str) else None)
    return Response(file, headers=headers, media_type=_TYPES[file_format])


async def chart_workout(request: Request[Resources], principal: Principal) -> Response:
    document = await _found(request, principal)
    async with request.state["track_reads"]:
        series = {stream: await _series(request, principal, stream) for stream in ("heart_rate", "altitude")}
    title = document.values.get("title")
    picture = await asyncio.to_thread(
        charts.workout,
        title=title if isinstance(title, str) and title else "Workout",
        pulse=series["heart_rate"],
        altitude=series["altitude"],
    )
    return bodies.respond_bytes(request, picture.encode(), headers=_PRIVATE, media_type=_SVG)


def shown(document: Document) -> dict[str, Any]:
    """Return a document as its collection's shapes read it, with its id."""
    return {"id": document.key.id, **{name: value for name, value in read(document).items() if name != "deleted"}}


async def _found(request: Request[Resources], principal: Principal) -> Document:
    key = Key(COLLECTION, request.path_params["id"])
    found = await request.state["sync_store"].document(principal.user_id, key)
    if found is None or found.deleted or found.purged:
        raise NotFound("workout")
    return found


async def _chunks(request: Request[Resources], principal: Principal, *streams: Stream) -> dict[Stream, list[Chunk]]:
    chunks: dict[Stream, list[Chunk]] = {}
    async for one in request.state["tracks"].read(principal.user_id, request.path_params["id"], streams):
        chunks.setdefault(one.chunk.stream, []).append(one.chunk)
    return chunks


async def _session(request: Request[Resources], principal: Principal, document: Document) -> Session:
    chunks = await _chunks(request, principal, *STREAMS)
    session = await asyncio.to_thread(exports.session, read(document), chunks)
    if session is None:
        raise NotExportable("Nothing tells when the workout was; give it a `started_at`.")
    return session


async def _series(
    request: Request[Resources], principal: Principal, stream: Stream
) -> tuple[list[int], list[float | None]] | None:
    chunks = (await _chunks(request, principal, stream)).get(stream)
    return None if chunks is None else await asyncio.to_thread(_points, chunks)


def _points(chunks: list[Chunk]) -> tuple[list[int], list[float | None]]:
    few = tracks.downsample(tracks.join(chunks), CHART_POINTS)
    values = [value if isinstance(value, int | float) else None for value in few.values]
    return [few.start_ms + offset for offset in few.offsets_ms], values


def _tcx(session: Session, device: str | None) -> bytes:
    return "".join(tcx_writer.written(session, device=device)).encode()


async def _rest(first: bytes, text: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in text:
        yield piece


async def _given(request: Request[Resources]) -> dict[str, Any]:
    return await bodies.read(request, dict[str, Any], limit_bytes=BODY_LIMIT_BYTES)


def _asked_instant(request: Request[Resources], name: str) -> str | None:
    asked = request.query_params.get(name)
    if asked is None:
        return None
    try:
        at = datetime.fromisoformat(asked)
        if at.tzinfo is not None:
            return bodies.rfc3339(round(at.astimezone(UTC).timestamp() * 1000))
    except (ValueError, OverflowError):
        pass
    raise InvalidBody(Invalid("", f"{name}: an instant such as 2026-05-01T06:30:00.000Z."))


def _asked_limit(request: Request[Resources]) -> int:
    asked = request.query_params.get("limit", str(DEFAULT_WORKOUTS))
    limit = int(asked) if asked.isascii() and asked.isdigit() and len(asked) <= 4 else 0
    if not 1 <= limit <= MAX_WORKOUTS:
        raise InvalidBody(Invalid("", f"limit: an integer from 1 to {MAX_WORKOUTS}."))
    return limit


def _cursor(document: Document) -> str:
    at = document.values.get("started_at")
    place = f"{document.key.id}/{at}" if isinstance(at, str) else document.key.id
    return urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _asked_place(request: Request[Resources]) -> Began | None:
    asked = request.query_params.get("cursor")
    if not asked:
        return None
    try:
        workout_id, slash, at = urlsafe_b64decode(asked + "=" * (-len(asked) % 4)).decode().partition("/")
    except ValueError:
        workout_id, slash, at = "", "", ""
    if not changes.is_uuid(workout_id):
        raise InvalidBody(Invalid("", "cursor: not one that this list gave."))
    return Began(at if slash else None, workout_id)


def _new_id() -> str:
    return str(uuid4())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


_PRIVATE: Final = {"Cache-Control": "private, no-cache"}
_WORKOUT: Final = Parameter(name="id", where="path", description="The workout's id.", type=UUID, required=True)
_BODY: Final = (
    "The members are the fields of the collection `workouts` (`GET /v1/sync/schema`): sets are lists of their elements, children "
    "lists of objects in their order, each with its `id`, which is made where it is left out. `tracks` is kept by uploads."
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="GET",
        path="/v1/workouts",
        handler=get_workouts,
        tag="Workouts",
        summary="List workouts, the latest first",
        login=True,
        scope="workouts:read",
        parameters=(
            Parameter(name="sport", where="query", description="Of this sport only.", type=Sport),
            Parameter(name="from", where="query", description="Began at this instant or later.", type=datetime),
            Parameter(name="to", where="query", description="Began before this instant.", type=datetime),
            Parameter(name="cursor", where="query", description="The `cursor` of the page before."),
            Parameter(
                name="limit",
                where="query",
                description=f"Workouts a page at most, {DEFAULT_WORKOUTS} if left out; fewer where they are large.",
                type=Annotated[int, Meta(ge=1, le=MAX_WORKOUTS)],
            ),
        ),
        answers={200: WorkoutList},
        problems=("invalid_body", "unavailable"),
    ),
    Operation(
        method="POST",
        path="/v1/workouts",
        handler=post_workout,
        tag="Workouts",
        summary="Make a workout",
        description=(
            f"{_BODY} With an `id` of the client's own it may be sent again: 200 says that it is there as given, 409 that it differs."
        ),
        login=True,
        scope="workouts:write",
        body=dict[str, Any],
        answers={201: dict[str, Any], 200: dict[str, Any]},
        problems=("invalid_body", "document_exists", "document_full", "document_purged", "unavailable"),
    ),
    Operation(
        method="GET",
        path="/v1/workouts/{id}",
        handler=get_workout,
        tag="Workouts",
        summary="One workout",
        login=True,
        scope="workouts:read",
        parameters=(_WORKOUT,),
        answers={200: dict[str, Any]},
        problems=("not_found", "unavailable"),
    ),
    Operation(
        method="PATCH",
        path="/v1/workouts/{id}",
        handler=patch_workout,
        tag="Workouts",
        summary="Change a workout",
        description=f"JSON Merge Patch (RFC 7396): what is left out stays, null clears, a list takes the place of the list. {_BODY}",
        login=True,
        scope="workouts:write",
        parameters=(_WORKOUT,),
        body=dict[str, Any],
        answers={200: dict[str, Any]},
        problems=("invalid_body", "not_found", "document_full", "unavailable"),
    ),
    Operation(
        method="DELETE",
        path="/v1/workouts/{id}",
        handler=delete_workout,
        tag="Workouts",
        summary="Delete a workout",
        description="Devices learn of it by sync; after 30 days it is gone for good, with its tracks.",
        login=True,
        scope="workouts:write",
        parameters=(_WORKOUT,),
        answers={204: None},
        problems=("not_found", "unavailable"),
    ),
    Operation(
        method="GET",
        path="/v1/workouts/{id}/export",
        handler=export_workout,
        tag="Workouts",
        summary="A workout as a file for other apps",
        description="GPX has positions and what was measured at them; TCX also what was recorded indoors; FIT RR intervals too.",
        login=True,
        scope="workouts:read",
        parameters=(
            _WORKOUT,
            Parameter(
                name="format",
                where="query",
                description="The file's format.",
                type=Literal["gpx", "tcx", "fit"],
                required=True,
            ),
        ),
        answers={200: Media(types=tuple(_TYPES.values()), description="The file.")},
        problems=("invalid_body", "not_found", "not_exportable", "unavailable"),
    ),
    Operation(
        method="GET",
        path="/v1/workouts/{id}/chart.svg",
        handler=chart_workout,
        tag="Workouts",
        summary="Heart rate and altitude as a picture",
        login=True,
        scope="workouts:read",
        parameters=(_WORKOUT,),
        answers={200: Media(types=(_SVG,), description="The picture.")},
        problems=("not_found", "unavailable"),
    ),
)
