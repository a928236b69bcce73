"""Training logs of other apps, as their CSV exports."""

import asyncio
import time
from typing import Final, Literal

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import bodies
from fitness_api.errors import Invalid, InvalidBody, MalformedBody, UnsupportedMediaType
from fitness_api.identity.access_tokens import Principal
from fitness_api.operation import Media, Operation, Parameter
from fitness_api.resources import Resources
from fitness_api.statistics.calendars import is_zone
from fitness_api.workouts import logbook, strength_csv
from fitness_api.workouts.errors import LogUnreadable
from fitness_api.workouts.strength_csv import App, DistanceUnit, Log, NotALog, RowError, UnitMissing, WeightUnit

LIMIT_BYTES: Final = 16 * 1024 * 1024  # twenty years of training have 10
MAX_ERRORS: Final = 1_000  # rows that are told; more of them say the same

_TYPES: Final = ("text/csv", "text/plain", "application/octet-stream")


class LogAnswer(Struct, frozen=True, kw_only=True):
    """workouts: the ids of the log's, in the order of their starts; `new` of them were not there. errors: rows that were left out,
    as spreadsheets count them, so many at most; `wrong_rows` counts all.
    """

    app: App
    dry_run: bool
    workouts: list[str]
    new: int | None
    sets: int
    errors: list[RowError]
    wrong_rows: int


async def post_log(request: Request[Resources], principal: Principal) -> Response:
    got = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if got and got not in _TYPES:
        raise UnsupportedMediaType(got=got[:80], supported=_TYPES)
    is_dry = _asked(request, "dry_run", ("true", "false"), default="false") == "true"
    weight_unit, distance_unit = (
        _asked(request, "weight_unit", ("kg", "lb")),
        _asked(request, "distance_unit", ("km", "mi")),
    )
    timezone = await _asked_timezone(request, principal)
    body = await bodies.read_bytes(request, limit_bytes=LIMIT_BYTES)
    try:
        log = await asyncio.to_thread(_parsed, body, timezone, weight_unit, distance_unit)
    except UnicodeDecodeError as error:
        raise MalformedBody("The log is not UTF-8 text.") from error
    except NotALog as error:
        raise LogUnreadable(str(error)) from error
    except UnitMissing as error:
        raise LogUnreadable(f"{error} Say {error.unit}_unit in the query.") from error
    ids, new = logbook.workout_ids(log, principal.user_id), None
    if not is_dry:
        kept = await logbook.keep(
            request.state["sync_store"], log, principal.user_id, timezone=timezone, now_ms=time.time_ns() // 1_000_000
        )
        new = kept.new
    answer = LogAnswer(
        app=log.app,
        dry_run=is_dry,
        workouts=ids,
        new=new,
        sets=sum(len(workout.sets) for workout in log.workouts),
        errors=log.errors[:MAX_ERRORS],
        wrong_rows=len(log.errors),
    )
    return bodies.respond(request, answer, status=201 if new else 200)


def _parsed(body: bytes, timezone: str, weight_unit: str | None, distance_unit: str | None) -> Log:
    weights: dict[str, WeightUnit] = {"kg": "kg", "lb": "lb"}
    distances: dict[str, DistanceUnit] = {"km": "km", "mi": "mi"}
    return strength_csv.parsed(
        body.decode("utf-8"),
        timezone=timezone,
        weight_unit=weights.get(weight_unit or ""),
        distance_unit=distances.get(distance_unit or ""),
    )


async def _asked_timezone(request: Request[Resources], principal: Principal) -> str:
    asked = request.query_params.get("timezone")
    if asked is None:
        account = await request.state["accounts"].account(principal.user_id)
        return (account.timezone if account is not None else None) or "UTC"
    if not is_zone(asked):
        raise InvalidBody(Invalid("", "timezone: an IANA time zone, such as Europe/Berlin."))
    return asked


def _asked(request: Request[Resources], name: str, known: tuple[str, ...], *, default: str | None = None) -> str | None:
    asked = request.query_params.get(name, default)
    if asked is not None and asked not in known:
        raise InvalidBody(Invalid("", f"{name}: {' or '.join(known)}."))
    return asked


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/v1/imports/log",
        handler=post_log,
        tag="Imports",
        summary="Import the training log of Strong or Hevy",
        description=(
            "The body is the app's CSV export. 201: workouts were made; 200: all of them were there, which are then filled where they "
            "lack something. Rows that are not understood are left out and told in `errors`. Deleted workouts stay deleted."
        ),
        login=True,
        scope="workouts:write",
        is_repeatable=True,
        parameters=(
            Parameter(
                name="dry_run",
                where="query",
                description="Says what would be made, and makes nothing.",
                type=Literal["true", "false"],
            ),
            Parameter(
                name="timezone", where="query", description="Of the log's local times; the account's if left out."
            ),
            Parameter(
                name="weight_unit",
                where="query",
                description="Where the log does not tell it.",
                type=Literal["kg", "lb"],
            ),
            Parameter(
                name="distance_unit",
                where="query",
                description="Where the log does not tell it.",
                type=Literal["km", "mi"],
            ),
        ),
        body=Media(types=_TYPES, description="A CSV export, in UTF-8."),
        answers={201: LogAnswer, 200: LogAnswer},
        problems=("invalid_body", "log_unreadable", "unavailable"),
        limits=("imports", "upload_kib"),
    ),
)
