"""Files and sample streams: imports, the originals back, chunks up, tracks down."""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from fitness_api import bodies
from fitness_api.errors import Invalid, InvalidBody, NotFound, UnsupportedMediaType
from fitness_api.identity.access_tokens import Principal
from fitness_api.operation import Media, Operation, Parameter
from fitness_api.resources import Resources
from fitness_api.workouts.decoder_process import MAX_FILE_BYTES
from fitness_api.workouts.imports import Duplicates, Imported
from fitness_api.workouts.recording import FileFormat
from sync import tracks
from sync.attach import attach
from sync.document import Document, Key
from sync.track_store import COLLECTION
from sync.tracks import STREAMS, Chunk, ChunkInvalid, Sample, Stream

# MAX_SAMPLES positions with all of a double's digits, as JSON, are 600 KB; indented, twice that.
CHUNK_LIMIT_BYTES: Final = 2 * 1024 * 1024

# A screen has fewer columns; whoever wants every sample leaves `points` out.
MAX_POINTS: Final = 100_000

_MEDIA_TYPES: Final[Mapping[FileFormat, str]] = {
    "fit": "application/vnd.ant.fit",
    "gpx": "application/gpx+xml",
    "tcx": "application/vnd.garmin.tcx+xml",
}
_FILE_TYPES: Final = (
    "application/octet-stream", *_MEDIA_TYPES.values(), "application/fit", "application/xml", "text/xml", "application/gzip",
    "application/zip", "application/x-zip-compressed",
)  # fmt: skip

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class ImportAnswer(Struct, frozen=True, kw_only=True):
    """`workouts`: the ids of the documents, one for each session of the file."""

    import_id: str
    workouts: list[str]
    warnings: list[str]


class ChunkBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Samples of one stream: `values[i]`, a number, for `position` [latitude, longitude], or null, `offsets_ms[i]` after `start`."""

    start: Annotated[
        datetime, Meta(tz=True, description="RFC 3339, to the millisecond.", examples=["2026-05-01T06:30:00.000Z"])
    ]
    offsets_ms: Annotated[list[int], Meta(min_length=1, max_length=tracks.MAX_SAMPLES)]
    values: Annotated[list[Any], Meta(min_length=1, max_length=tracks.MAX_SAMPLES)]


class ChunkAnswer(Struct, frozen=True, kw_only=True):
    status: str


class Track(Struct, frozen=True, kw_only=True):
    """One stream of a workout, its chunks joined. `samples` counts them before down-sampling."""

    start: str
    offsets_ms: list[int]
    values: list[Sample]
    samples: int
    chunks: list[str]


class Tracks(Struct, frozen=True, kw_only=True):
    """Streams that the workout does not have are left out."""

    streams: dict[Stream, Track]


async def post_import(request: Request[Resources], principal: Principal) -> Response:
    got = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if got and got not in _FILE_TYPES:
        raise UnsupportedMediaType(got=got[:80], supported=_FILE_TYPES)
    asked = request.query_params.get("duplicates", "merge")
    if asked not in ("merge", "keep"):
        raise InvalidBody(Invalid("", "duplicates: merge or keep."))
    duplicates: Duplicates = "keep" if asked == "keep" else "merge"
    importer = request.state["importer"]
    with importer.decoder.room() as keep:
        imported = await importer.import_file(
            await bodies.read_bytes(request, limit_bytes=MAX_FILE_BYTES, keep=keep),
            user_id=principal.user_id,
            now_ms=_now_ms(),
            duplicates=duplicates,
        )
    return bodies.respond(request, _answer(imported), status=201 if imported.is_new else 200)


async def post_separate(request: Request[Resources], principal: Principal) -> Response:
    importer = request.state["importer"]
    separated = await importer.separate(principal.user_id, request.path_params["id"], now_ms=_now_ms())
    if separated is None:
        raise NotFound("import")
    return bodies.respond(request, _answer(separated))


def _answer(imported: Imported) -> ImportAnswer:
    return ImportAnswer(import_id=imported.import_id, workouts=imported.workouts, warnings=imported.warnings)


async def get_file(request: Request[Resources], principal: Principal) -> Response:
    store = request.state["importer"].imports
    record = await store.find_by_id(principal.user_id, request.path_params["id"])
    if record is None:
        raise NotFound("import")
    headers = {
        "ETag": f'"{record.sha256}"',
        "Cache-Control": "private, no-store",
        "Vary": "Accept-Encoding",
        "Content-Disposition": f'attachment; filename="{record.import_id}.{record.format}"',
    }
    if bodies.matches(request.headers.get("if-none-match", ""), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    headers["Content-Length"] = str(record.size_bytes)
    return StreamingResponse(store.read_file(record), headers=headers, media_type=_MEDIA_TYPES[record.format])


async def put_chunk(request: Request[Resources], principal: Principal) -> Response:
    workout_id, chunk_id = request.path_params["id"], request.path_params["chunk"]
    stream = request.path_params["stream"]
    if not tracks.is_stream(stream):
        raise NotFound("stream")
    body = await bodies.read(request, ChunkBody, limit_bytes=CHUNK_LIMIT_BYTES)
    if body.start.microsecond % 1000:
        raise InvalidBody(Invalid("/start", "An instant is given to the millisecond; use offsets_ms for more samples."))
    try:
        chunk = tracks.check(
            stream=stream,
            start_ms=(body.start - _EPOCH) // _MILLISECOND,
            offsets_ms=body.offsets_ms,
            values=body.values,
        )
        done = await attach(
            request.state["sync_store"],
            request.state["tracks"],
            user_id=principal.user_id,
            workout_id=workout_id,
            chunk_id=chunk_id,
            chunk=chunk,
            now_ms=_now_ms(),
        )
    except ChunkInvalid as error:
        raise InvalidBody(*(Invalid(wrong.pointer, wrong.detail) for wrong in error.wrong)) from error
    return bodies.respond(request, ChunkAnswer(status=done), status=201 if done == "stored" else 200)


async def get_tracks(request: Request[Resources], principal: Principal) -> Response:
    workout_id = request.path_params["id"]
    asked, points = _asked_streams(request), _asked_points(request)
    streams: dict[Stream, Track] = {}
    async with request.state["track_reads"]:
        for stream in asked:  # one at a time: a workout's samples together may be 2,000,000
            found = [one async for one in request.state["tracks"].read(principal.user_id, workout_id, [stream])]
            if found:
                ids = [one.chunk_id for one in found]
                streams[stream] = await asyncio.to_thread(_track, ids, [one.chunk for one in found], points)
        if (
            not streams
            and not await request.state["tracks"].holds(principal.user_id, workout_id)
            and await _workout(request, principal, workout_id) is None
        ):
            raise NotFound("workout")
        return bodies.respond(request, Tracks(streams=streams))


async def _workout(request: Request[Resources], principal: Principal, workout_id: str) -> Document | None:
    found = await request.state["sync_store"].document(principal.user_id, Key(COLLECTION, workout_id))
    return None if found is None or found.purged else found


def _track(chunk_ids: list[str], chunks: list[Chunk], points: int | None) -> Track:
    whole = tracks.join(chunks)
    shown = whole if points is None else tracks.downsample(whole, points)
    return Track(
        start=bodies.rfc3339(shown.start_ms),
        offsets_ms=shown.offsets_ms,
        values=shown.values,
        samples=len(whole.values),
        chunks=chunk_ids,
    )


def _asked_streams(request: Request[Resources]) -> list[Stream]:
    asked = request.query_params.get("streams")
    if asked is None:
        return list(STREAMS)
    streams: list[Stream] = []
    for name in asked.split(","):
        if not tracks.is_stream(name):
            raise InvalidBody(Invalid("", f"streams: {name[:40]!r} is no stream; there are: {', '.join(STREAMS)}."))
        streams.append(name)
    return streams


def _asked_points(request: Request[Resources]) -> int | None:
    asked = request.query_params.get("points")
    if asked is None:
        return None
    points = int(asked) if asked.isascii() and asked.isdigit() and len(asked) <= 6 else 0
    if not tracks.MIN_POINTS <= points <= MAX_POINTS:
        raise InvalidBody(Invalid("", f"points: an integer from {tracks.MIN_POINTS} to {MAX_POINTS}."))
    return points


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


_WORKOUT: Final = Parameter(
    name="id", where="path", description="The workout's id; its document may come later.", type=UUID, required=True
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/v1/imports",
        is_repeatable=True,
        handler=post_import,
        tag="Imports",
        summary="Import a file from a device",
        description=(
            "The body is a FIT, GPX or TCX file, as it is, in gzip or alone in a zip, of at most 64 MiB decompressed. 201: the workouts were made, one for "
            "each session of a multisport file, with summary, laps and tracks. 200: this very file was imported before; the same "
            "workouts are given, and restored where they were deleted. Also 200: every activity of the file starts within 60 s of one "
            "that is there, lasts as long within 10 %, and no sport contradicts it: it gets the streams and fields that it lacks, and "
            "nothing of it is overwritten. `imports` of a workout lists what went into it. Of a damaged file the readable part is imported, and "
            "`warnings` say what is missing. An upload that was cut off is made good by another."
        ),
        login=True,
        scope="workouts:write",
        parameters=(
            Parameter(
                name="duplicates",
                where="query",
                description="`keep` makes workouts even of what is there already; `merge` if left out.",
                type=Duplicates,
            ),
        ),
        body=Media(types=_FILE_TYPES, description="A FIT, GPX or TCX file."),
        answers={201: ImportAnswer, 200: ImportAnswer},
        problems=(
            "format_unknown",
            "file_unreadable",
            "file_damaged",
            "file_too_complex",
            "decoder_busy",
            "unavailable",
        ),
        limits=("imports", "upload_kib"),
    ),
    Operation(
        method="POST",
        path="/v1/imports/{id}/separate",
        handler=post_separate,
        tag="Imports",
        summary="Give an import workouts of its own",
        description=(
            "Undoes that the import was recognised as a workout that was there: the import gets workouts of its own, with all of its "
            "samples, and what it had added to the others is taken away, but for what was written anew since."
        ),
        login=True,
        scope="workouts:write",
        is_repeatable=True,
        parameters=(Parameter(name="id", where="path", description="The import's id.", type=UUID, required=True),),
        answers={200: ImportAnswer},
        problems=("not_found", "file_unreadable", "decoder_busy", "document_purged", "document_full", "unavailable"),
    ),
    Operation(
        method="GET",
        path="/v1/imports/{id}/file",
        handler=get_file,
        tag="Imports",
        summary="The file that was imported, decompressed, to the byte",
        login=True,
        scope="workouts:read",
        parameters=(Parameter(name="id", where="path", description="The import's id.", type=UUID, required=True),),
        answers={200: Media(types=tuple(_MEDIA_TYPES.values()), description="The original.")},
        problems=("not_found", "unavailable"),
    ),
    Operation(
        method="PUT",
        path="/v1/workouts/{id}/tracks/{stream}/{chunk}",
        handler=put_chunk,
        tag="Tracks",
        summary="Store a chunk of a sample stream",
        description=(
            "201: stored, and listed in the document's `tracks`. 200: it was there with the same content. A chunk never changes: "
            "another content under its id is a conflict."
        ),
        login=True,
        scope="workouts:write",
        parameters=(
            _WORKOUT,
            Parameter(name="stream", where="path", description="The stream.", type=Stream, required=True),
            Parameter(
                name="chunk", where="path", description="The chunk's id, made by the client.", type=UUID, required=True
            ),
        ),
        body=ChunkBody,
        answers={201: ChunkAnswer, 200: ChunkAnswer},
        problems=("track_conflict", "tracks_full", "document_purged", "not_found", "unavailable"),
        limits=("tracks", "upload_kib"),
    ),
    Operation(
        method="GET",
        path="/v1/workouts/{id}/tracks",
        handler=get_tracks,
        tag="Tracks",
        summary="A workout's sample streams",
        description=(
            "With `points` each stream is brought down to that many samples at most, as they were measured: the first, the last, "
            "and the least and greatest of each stretch between."
        ),
        login=True,
        scope="workouts:read",
        parameters=(
            _WORKOUT,
            Parameter(
                name="streams", where="query", description="Names of streams with commas between; left out: all."
            ),
            Parameter(
                name="points",
                where="query",
                description="Samples a stream at most; left out: all.",
                type=Annotated[int, Meta(ge=tracks.MIN_POINTS, le=MAX_POINTS)],
            ),
        ),
        answers={200: Tracks},
        problems=("invalid_body", "not_found", "unavailable"),
    ),
)
