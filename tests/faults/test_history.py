"""The check of a history finds out whatever a server may do wrong; without that, the other tests here would prove nothing."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from sync.clock import Stamp
from sync.document import Key
from sync.replica import Register
from tests.faults.history import History, Made, RunEnd, State, Told, Version, digests, problems

RIDE = Key("workouts", "0190a000-0000-7000-8000-000000000001")
LUNCH = Key("nutrition", "0190a000-0000-7000-8000-000000000002")


def registers(**given: tuple[Any, int]) -> Mapping[str, Register]:
    return {path.replace("__", "/"): Register(value, Stamp(stamp)) for path, (value, stamp) in given.items()}


def told_of(state: State) -> dict[str, str]:
    return {name: f"{number:016x}" for name, number in digests(state).items()} | {"goals": "0" * 16}


def honest() -> History:
    """Replicas 1 and 2 write the same ride; 2's clock is wrong, and its change is restamped from 900 to 30."""
    first = registers(notes=("1.1", 10))
    second = registers(notes=("2.1", 30), deleted=(False, 30))
    lunch = registers(water_ml__1=(5, 20), water_ml__2=(7, 40))
    one: State = {RIDE: first}
    end: State = {RIDE: second, LUNCH: lunch}
    return History(
        made={
            "a": Made(1, RIDE, 10, {"notes": "1.1"}),
            "b": Made(1, LUNCH, 20, {"water_ml/1": 5}),
            "c": Made(2, RIDE, 900, {"notes": "2.1", "deleted": False}),
            "d": Made(2, LUNCH, 40, {"water_ml/2": 7}),
        },
        told=[Told("a", "applied", 10), Told("b", "applied", 20), Told("c", "restamped", 30), Told("d", "applied", 40)],
        run_ends=[
            RunEnd(1, 0, {}, told_of({})),
            RunEnd(1, 1, digests(one), told_of(one)),
            RunEnd(1, 4, digests(end), told_of(end)),
            RunEnd(2, 4, digests(end), told_of(end)),
        ],
        versions=[
            Version(1, RIDE, first),
            Version(2, LUNCH, registers(water_ml__1=(5, 20))),
            Version(3, RIDE, second),
            Version(4, LUNCH, lunch),
        ],
        newest=4,
        stored=end,
        held={1: end, 2: end},
    )


def forget_everywhere(history: History) -> History:
    """What a database does that rolls an acknowledged write back, and whose devices then follow it."""
    end: State = {RIDE: registers(notes=("1.1", 10)), LUNCH: history.stored[LUNCH]}
    versions = [version._replace(seq=n + 1) for n, version in enumerate(v for v in history.versions if v.seq != 3)]
    ends = [RunEnd(replica, 3, digests(end), told_of(end)) for replica in (1, 2)]
    return replace(history, versions=versions, newest=3, stored=end, held={1: end, 2: end}, run_ends=ends)


def committed_twice(history: History) -> History:
    return replace(history, versions=[*history.versions, history.versions[3]._replace(seq=5)], newest=5)


def restamped_twice(history: History) -> History:
    first_attempt = Version(3, RIDE, registers(notes=("2.1", 25), deleted=(False, 25)))
    return replace(history, versions=[*history.versions[:2], first_attempt, *history.versions[3:]])


def with_lunch(history: History, lunch: Mapping[str, Register]) -> History:
    end = {**history.stored, LUNCH: lunch}
    versions = [*history.versions[:3], Version(4, LUNCH, lunch)]
    return replace(history, versions=versions, stored=end, held={1: end, 2: end}, run_ends=[])


BROKEN: Mapping[str, tuple[Callable[[History], History], str]] = {
    "an acknowledged change is lost": (forget_everywhere, "restamped and lost"),
    "a change is never answered": (lambda history: replace(history, told=history.told[1:]), "told 0 times"),
    "a change is answered twice": (lambda h: replace(h, told=[*h.told, h.told[0]]), "told 2 times"),
    "a change is refused": (
        lambda h: replace(h, told=[h.told[0]._replace(status="rejected"), *h.told[1:]]),
        "was rejected",
    ),
    "a sequence is left out": (
        lambda h: replace(h, versions=[*h.versions[:3], h.versions[3]._replace(seq=5)], newest=5),
        "missing [4]",
    ),
    "a sequence is given twice": (
        lambda h: replace(h, versions=[*h.versions[:3], h.versions[3]._replace(seq=3)], newest=3),
        "twice [3]",
    ),
    "sequences are committed out of order": (
        lambda h: replace(h, versions=[h.versions[0], h.versions[2], h.versions[1], h.versions[3]]),
        "in order: False",
    ),
    "a write is done twice": (committed_twice, "Nothing was new"),
    "a register goes back": (
        lambda h: replace(h, versions=[h.versions[2]._replace(seq=1), h.versions[1], h.versions[0]._replace(seq=3)]),
        "went back",
    ),
    "a retry gets another stamp": (restamped_twice, "Nobody was told of"),
    "a counter counts wrong": (
        lambda history: with_lunch(history, registers(water_ml__1=(5, 20), water_ml__2=(6, 41))),
        "should be 12",
    ),
    "a device holds something else": (
        lambda history: replace(history, held={1: history.stored, 2: {RIDE: history.stored[RIDE]}}),
        "Replica 2 and the database differ",
    ),
    "something else is stored than was committed": (
        lambda history: replace(history, stored={RIDE: history.stored[RIDE]}),
        "Stored and not committed",
    ),
    "a delta misses a change": (
        lambda h: replace(h, run_ends=[RunEnd(1, 3, h.run_ends[1].own, h.run_ends[1].told)]),
        "Replica 1 held another state",
    ),
    "a wrong digest is told": (
        lambda h: replace(
            h, run_ends=[h.run_ends[2]._replace(told={**h.run_ends[2].told, "workouts": "0" * 15 + "1"})]
        ),
        "told other digests",
    ),
    "a cursor is ahead of the database": (
        lambda h: replace(h, run_ends=[h.run_ends[2]._replace(at=9)]),
        "never committed",
    ),
}


def test_an_honest_history_has_no_problems() -> None:
    assert problems(honest()) == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_found_out(name: str) -> None:
    breaks, words = BROKEN[name]
    assert any(words in problem for problem in problems(breaks(honest()))), problems(breaks(honest()))


def test_the_digest_is_the_contracts() -> None:
    """SHA-256 of "workouts/0190a000-0000-7000-8000-000000000001/notes=000000000000000a", by another program."""
    assert digests({RIDE: registers(notes=("1.1", 10))}) == {"workouts": 0x2FFA3BCC63594807}
