"""Days, weeks and streaks as a person lives them.

A workout belongs to the local day on which it began, where it began: its own time zone or UTC offset decides, not the one where
the account is now. So a streak outlasts summer time and travel, and a workout that is uploaded late still closes its gap.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from msgspec import Struct

MAX_OFFSET_S: Final = 14 * 3600  # of Kiritimati

# Documents may name any instant; a local day of the first and of the last year that there is may be none.
MIN_MS: Final = -2_208_988_800_000  # 1900
MAX_MS: Final = 4_102_444_800_000  # 2100


class Streak(Struct, frozen=True):
    """first, last: local days, ISO 8601."""

    days: int
    first: str
    last: str


class Streaks(Struct, frozen=True):
    """current: the streak that reaches today or yesterday, as today is not over; None: there is none."""

    current: Streak | None
    longest: Streak | None


def local_day(started_at_ms: int, *, timezone: str | None, utc_offset_s: int | None, default: str = "UTC") -> date:
    """Return the day on which it began there: by its time zone, else its offset from UTC, else the zone of the account.

    started_at_ms: from MIN_MS to MAX_MS.
    """
    instant = datetime.fromtimestamp(started_at_ms / 1000, UTC)
    if timezone is None and utc_offset_s is not None:
        return (instant + timedelta(seconds=utc_offset_s)).date()
    return instant.astimezone(ZoneInfo(timezone or default)).date()


def is_zone(name: str) -> bool:
    return name in _zones()


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def week_of(day: date) -> str:
    """Return the ISO 8601 week, such as 2026-W01; it begins on Monday, and its year is that of its Thursday."""
    year, week, _ = day.isocalendar()
    return f"{year:04}-W{week:02}"


def streaks(days: Iterable[date], *, today: date) -> Streaks:
    """Return the current and the longest run of days one after the other, of days in any order and given any number of times.

    Tomorrow counts as well, as it may be there where a traveller trained; what lies further ahead is of a wrong clock, and left out.
    """
    runs: list[tuple[date, date]] = []
    for day in sorted({day for day in days if day <= today + timedelta(days=1)}):
        if runs and day - runs[-1][1] == timedelta(days=1):
            runs[-1] = runs[-1][0], day
        else:
            runs.append((day, day))
    # Of runs of one length the latest, as people say "again".
    longest = max(runs, key=lambda run: (run[1] - run[0], run[1]), default=None)
    current = runs[-1] if runs and runs[-1][1] >= today - timedelta(days=1) else None
    return Streaks(current=_streak(current), longest=_streak(longest))


def weekly_streak(days: Collection[date], *, today: date, at_least: int = 1) -> int:
    """Return how many weeks in a row, up to this one or the last, have so many active days."""
    active: dict[date, int] = {}
    for day in set(days):
        monday = day - timedelta(days=day.weekday())
        active[monday] = active.get(monday, 0) + 1
    week = today - timedelta(days=today.weekday())
    if active.get(week, 0) < at_least:
        week -= timedelta(days=7)  # this one is not over
    count = 0
    while active.get(week, 0) >= at_least:
        count += 1
        week -= timedelta(days=7)
    return count


def _streak(run: tuple[date, date] | None) -> Streak | None:
    if run is None:
        return None
    first, last = run
    return Streak((last - first).days + 1, first.isoformat(), last.isoformat())
