"""What all workouts come to. Answers are of everything that was written before they were asked for, late arrivals too.

An answer is kept in Redis under all that it follows from: the account's sequence, its profile, the day and what was asked. So nothing
has to be invalidated, and without Redis it is reckoned anew.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Meta, MsgspecError, Struct, json, msgpack
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import bodies
from fitness_api.errors import Invalid, InvalidBody
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.accounts import Account
from fitness_api.operation import Media, Operation, Parameter
from fitness_api.redis_guarded import RedisUnavailable
from fitness_api.resources import Resources
from fitness_api.statistics import calendars, charts, facts, follow, summaries
from fitness_api.statistics.calendars import Streaks
from fitness_api.statistics.fact_store import Followed
from fitness_api.statistics.facts import Facts
from fitness_api.statistics.heart_rate_zones import Dated, Model, Profile
from fitness_api.statistics.summaries import Load, LoadMethod, Records, Week, Zones

MAX_WEEKS: Final = 530  # ten years
MAX_DAYS: Final = 3_660
_KEPT_S: Final = (
    3_600  # a screen that is opened again; health data rests there no longer, and no longer than that past an erasure
)

_SVG: Final = "image/svg+xml"
_PRIVATE: Final = {"Cache-Control": "private, no-cache"}


class Weeks(Struct, frozen=True, kw_only=True):
    """In order, the present week last; weeks without a workout are there too."""

    weeks: list[Week]


class StreakAnswer(Struct, frozen=True, kw_only=True):
    """today: the account's local day. weeks: in a row, up to this one or the last, with a workout."""

    today: str
    current: calendars.Streak | None
    longest: calendars.Streak | None
    weeks: int


class _Asked(NamedTuple):
    """What an answer is reckoned from, beside its own parameters."""

    account: Account
    followed: Followed
    today: date

    @property
    def history(self) -> list[Dated]:
        return [
            Dated(from_day=day, profile=Profile(hr_max_bpm=hr_max, hr_rest_bpm=hr_rest))
            for day, hr_max, hr_rest in self.account.heart_rates
        ]

    @property
    def timezone(self) -> str:
        return self.account.timezone or "UTC"

    @property
    def method(self) -> LoadMethod:
        return "banister_women" if self.account.sex == "female" else "banister_men"


async def get_weekly(request: Request[Resources], principal: Principal) -> Response:
    count = _asked_count(request, "weeks", default=12, most=MAX_WEEKS)

    def reckoned(known: Sequence[Facts], asked: _Asked) -> Weeks:
        return Weeks(weeks=summaries.weeks(known, upto=asked.today, count=count))

    return await _answered(request, principal, f"weekly/{count}", Weeks, reckoned)


async def get_records(request: Request[Resources], principal: Principal) -> Response:
    return await _answered(request, principal, "records", Records, lambda known, _: summaries.records(known))


async def get_zones(request: Request[Resources], principal: Principal) -> Response:
    model = _asked_model(request)
    since, before = _asked_day(request, "from"), _asked_day(request, "to")

    def reckoned(known: Sequence[Facts], asked: _Asked) -> Zones:
        within = [one for one in known if (not since or one.day >= since) and (not before or one.day < before)]
        return summaries.zones(within, asked.history, model=model, upto=asked.today)

    return await _answered(request, principal, f"zones/{model}/{since}/{before}", Zones, reckoned)


async def get_load(request: Request[Resources], principal: Principal) -> Response:
    count = _asked_count(request, "days", default=90, most=MAX_DAYS)

    def reckoned(known: Sequence[Facts], asked: _Asked) -> Load:
        return summaries.load(known, asked.history, upto=asked.today, count=count, method=asked.method)

    return await _answered(request, principal, f"load/{count}", Load, reckoned)


async def get_load_chart(request: Request[Resources], principal: Principal) -> Response:
    count = _asked_count(request, "days", default=180, most=MAX_DAYS)
    asked = await _asked(request, principal)
    kept = await request.state["statistics"].facts.all(principal.user_id, asked.followed)

    def drawn() -> str:
        known = facts.in_zone(kept, asked.timezone)
        load = summaries.load(known, asked.history, upto=asked.today, count=count, method=asked.method)
        return charts.load(load.days, first_day=date.fromisoformat(load.from_day), title="Training load")

    picture = await asyncio.to_thread(drawn)
    return bodies.respond_bytes(request, picture.encode(), headers=_PRIVATE, media_type=_SVG)


async def get_streaks(request: Request[Resources], principal: Principal) -> Response:
    def reckoned(known: Sequence[Facts], asked: _Asked) -> StreakAnswer:
        days = summaries.active_days(known)
        found: Streaks = calendars.streaks(days, today=asked.today)
        in_a_row = calendars.weekly_streak(days, today=asked.today)
        return StreakAnswer(today=asked.today.isoformat(), current=found.current, longest=found.longest, weeks=in_a_row)

    return await _answered(request, principal, "streaks", StreakAnswer, reckoned)


async def _asked(request: Request[Resources], principal: Principal) -> _Asked:
    account = await request.state["accounts"].account(principal.user_id)
    if account is None:
        raise await request.state["sessions"].refusal(principal.user_id, "The account is no more.")
    followed = await follow.up_to_date(
        request.state["statistics"], principal.user_id, places=request.state["track_reads"]
    )
    zone = ZoneInfo(account.timezone or "UTC")
    return _Asked(account, followed, datetime.fromtimestamp(time.time(), zone).date())


async def _answered(
    request: Request[Resources],
    principal: Principal,
    what: str,
    kind: type[Any],
    reckoned: Callable[[Sequence[Facts], _Asked], Any],
) -> Response:
    asked = await _asked(request, principal)
    key = _key(principal.user_id, what, asked)
    redis = request.state["guarded_redis"]
    try:
        kept = await redis.run(lambda client: client.execute_command("GET", key))
    except RedisUnavailable:
        kept = None
    if kept is not None:
        with suppress(MsgspecError):  # it was written by a version whose answers had other members
            return bodies.respond(request, msgpack.decode(kept, type=kind), headers=_PRIVATE)
    found = await request.state["statistics"].facts.all(principal.user_id, asked.followed)
    # In a thread: of a hundred thousand workouts it takes seconds.
    packed = await asyncio.to_thread(lambda: msgpack.encode(reckoned(facts.in_zone(found, asked.timezone), asked)))
    with suppress(RedisUnavailable):  # then it is reckoned anew the next time
        await redis.run(lambda client: client.execute_command("SET", key, packed, "EX", _KEPT_S))
    # As it will be when it is read from there: 0 and 0.0 are one number and two entity tags.
    return bodies.respond(request, msgpack.decode(packed, type=kind), headers=_PRIVATE)


def _key(user_id: str, what: str, asked: _Asked) -> str:
    account = asked.account
    follows_from = json.encode([asked.followed, asked.today, account.heart_rates, account.sex, account.timezone, what])
    return f"stats:{{{user_id}}}:{hashlib.blake2b(follows_from, digest_size=16).hexdigest()}"


def _asked_count(request: Request[Resources], name: str, *, default: int, most: int) -> int:
    asked = request.query_params.get(name, str(default))
    count = int(asked) if asked.isascii() and asked.isdigit() and len(asked) <= 5 else 0
    if not 1 <= count <= most:
        raise InvalidBody(Invalid("", f"{name}: an integer from 1 to {most}."))
    return count


def _asked_day(request: Request[Resources], name: str) -> str | None:
    asked = request.query_params.get(name)
    if asked is None:
        return None
    try:
        return date.fromisoformat(asked).isoformat()
    except ValueError:
        raise InvalidBody(Invalid("", f"{name}: a day such as 2026-05-01.")) from None


def _asked_model(request: Request[Resources]) -> Model:
    asked = request.query_params.get("model", "percent_hr_max")
    models: dict[str, Model] = {"percent_hr_max": "percent_hr_max", "percent_hr_reserve": "percent_hr_reserve"}
    if asked in models:
        return models[asked]
    raise InvalidBody(Invalid("", "model: percent_hr_max or percent_hr_reserve."))


def _count(name: str, description: str, most: int) -> Parameter:
    return Parameter(name=name, where="query", description=description, type=Annotated[int, Meta(ge=1, le=most)])


def _operation(
    path: str,
    handler: Callable[..., Any],
    summary: str,
    answer: Any,
    *parameters: Parameter,
    description: str = "",
) -> Operation:
    return Operation(
        method="GET",
        path=f"/v1/stats/{path}",
        handler=handler,
        tag="Statistics",
        summary=summary,
        description=description,
        login=True,
        scope="workouts:read",
        parameters=parameters,
        answers={200: answer},
        problems=("invalid_body", "unavailable"),
    )


_DAYS: Final = _count("days", "How many days, up to today.", MAX_DAYS)

OPERATIONS: tuple[Operation, ...] = (
    _operation(
        "weekly",
        get_weekly,
        "Volume by week",
        Weeks,
        _count("weeks", "How many weeks, the present one included; 12 if left out.", MAX_WEEKS),
    ),
    _operation(
        "records",
        get_records,
        "Personal records",
        Records,
        description="The fastest time over each distance anywhere in a workout, the greatest mean power, the best sets.",
    ),
    _operation(
        "zones",
        get_zones,
        "Time in heart-rate zones",
        Zones,
        Parameter(
            name="model",
            where="query",
            description="Of the maximum, or of the reserve (Karvonen).",
            type=Literal["percent_hr_max", "percent_hr_reserve"],
        ),
        Parameter(name="from", where="query", description="The first local day.", type=date),
        Parameter(name="to", where="query", description="The day after the last one.", type=date),
        description="Each workout by the profile of its day: a new maximum leaves earlier workouts as they were.",
    ),
    _operation(
        "load",
        get_load,
        "Training load: fitness, fatigue, form",
        Load,
        _DAYS,
        description="A workout's load is Banister's impulse over its heart rates; `method` names the variant.",
    ),
    _operation(
        "load.svg",
        get_load_chart,
        "Training load as a picture",
        Media(types=(_SVG,), description="The picture."),
        _DAYS,
    ),
    _operation("streaks", get_streaks, "Days in a row", StreakAnswer),
)
