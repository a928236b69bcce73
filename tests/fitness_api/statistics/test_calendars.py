from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.statistics.calendars import Streak, local_day, streaks, week_of, weekly_streak

TODAY = date(2026, 11, 21)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1_000)


@pytest.mark.parametrize(
    ("started", "timezone", "offset_s", "day"),
    [
        ("2026-03-29T00:30:00+00:00", "Europe/Berlin", None, date(2026, 3, 29)),  # in the hour before summer time
        ("2026-03-28T23:30:00+00:00", "Europe/Berlin", None, date(2026, 3, 29)),
        ("2026-03-29T22:30:00+00:00", "Europe/Berlin", None, date(2026, 3, 30)),  # two hours ahead now
        ("2026-10-25T22:30:00+00:00", "Europe/Berlin", None, date(2026, 10, 25)),  # and one again
        ("2026-06-01T05:00:00+00:00", "America/Los_Angeles", None, date(2026, 5, 31)),
        ("2026-06-01T11:00:00+00:00", "Pacific/Kiritimati", None, date(2026, 6, 2)),
        ("2026-06-01T23:00:00+00:00", None, 5_400, date(2026, 6, 2)),
        ("2026-06-01T23:00:00+00:00", "UTC", 5_400, date(2026, 6, 1)),  # a zone says more than an offset
        ("2026-06-01T23:00:00+00:00", None, None, date(2026, 6, 2)),  # the account's
    ],
)
def test_the_day_is_where_it_began(started: str, timezone: str | None, offset_s: int | None, day: date) -> None:
    assert local_day(ms(started), timezone=timezone, utc_offset_s=offset_s, default="Europe/Berlin") == day


def test_weeks_are_of_iso_8601() -> None:
    assert [week_of(date(*day)) for day in ((2026, 1, 1), (2024, 12, 30), (2027, 1, 3), (2026, 11, 21))] == [
        "2026-W01",
        "2025-W01",
        "2026-W53",
        "2026-W47",
    ]


def back(*days: int) -> list[date]:
    return [TODAY - timedelta(days=one) for one in days]


def test_a_streak_stands_until_today_is_over() -> None:
    assert streaks(back(3, 2, 1), today=TODAY).current == Streak(3, "2026-11-18", "2026-11-20")
    assert streaks(back(3, 2, 1, 0), today=TODAY).current == Streak(4, "2026-11-18", "2026-11-21")
    assert streaks(back(3, 2), today=TODAY).current is None


def test_a_workout_that_arrives_late_closes_its_gap() -> None:
    assert streaks(back(4, 3, 1, 0), today=TODAY).longest == Streak(2, "2026-11-20", "2026-11-21")
    assert streaks(back(4, 3, 1, 0, 2), today=TODAY).longest == Streak(5, "2026-11-17", "2026-11-21")


def test_a_streak_crosses_the_change_of_clocks() -> None:
    """Every evening at 23:30 in Berlin over the last Sunday of October, by the clock on the wall."""
    starts = [f"2026-10-{day}T{'21' if day < 25 else '22'}:30:00+00:00" for day in (23, 24, 25, 26, 27)]
    days = [local_day(ms(one), timezone="Europe/Berlin", utc_offset_s=None) for one in starts]
    assert streaks(days, today=date(2026, 10, 27)).current == Streak(5, "2026-10-23", "2026-10-27")


def test_travel_breaks_no_streak() -> None:
    """Runs at seven in the morning: Berlin, then a day's flight to New York, where it is the next morning there."""
    days = [
        local_day(ms("2026-06-01T05:00:00+00:00"), timezone="Europe/Berlin", utc_offset_s=None),
        local_day(ms("2026-06-02T11:00:00+00:00"), timezone="America/New_York", utc_offset_s=None),
    ]
    assert streaks(days, today=date(2026, 6, 2)).current == Streak(2, "2026-06-01", "2026-06-02")


def test_tomorrow_may_be_there_already_and_next_year_is_not() -> None:
    assert streaks([*back(0), TODAY + timedelta(days=1)], today=TODAY).current == Streak(2, "2026-11-21", "2026-11-22")
    assert streaks([*back(0), TODAY + timedelta(days=400)], today=TODAY).longest == Streak(
        1, "2026-11-21", "2026-11-21"
    )


@given(st.lists(st.integers(0, 60), max_size=60))
def test_streaks_are_those_of_a_naive_count(ago: list[int]) -> None:
    days = set(back(*ago))

    def run_up_to(day: date) -> int:
        return 1 + run_up_to(day - timedelta(days=1)) if day in days else 0

    found = streaks(back(*ago), today=TODAY)
    current = run_up_to(TODAY) or run_up_to(TODAY - timedelta(days=1))
    assert (found.current.days if found.current else 0) == current
    assert (found.longest.days if found.longest else 0) == max((run_up_to(day) for day in days), default=0)


def test_weeks_in_a_row() -> None:
    # 2026-11-21 is a Saturday.
    assert weekly_streak(back(0, 7, 14, 28), today=TODAY) == 3
    assert weekly_streak(back(7, 14), today=TODAY) == 2
    assert weekly_streak(back(0, 1, 7, 8, 14), today=TODAY, at_least=2) == 2
    assert weekly_streak([], today=TODAY) == 0


def test_an_instant_has_a_day_without_any_zone() -> None:
    assert local_day(0, timezone=None, utc_offset_s=None) == datetime(1970, 1, 1, tzinfo=UTC).date()
