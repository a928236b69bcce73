"""All histories of a small size, one after another: two devices, three edits, every order of what they do, every way to fail once.

Device A makes two edits and two round trips, B one of each. A round trip is two actions, between which anybody may act: the request
is taken in (what it uploads is committed), and the rest is done (what is new is read, and the answer received). An edit may come at
any point, also while its own device's request is under way. In each history at most one round trip fails: its server dies after the
upload was committed, or its answer is lost. Then all is mended, and must end as every simulation must.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Final, NamedTuple

from tests.simulate.plan import Plan
from tests.simulate.world import World

MADE: Final = {"A": 2, "B": 1}
TRIPS: Final = {"A": 2, "B": 1}

# Of one document, in the order in which they are made, whoever makes them: a field that all write, a deletion and its end.
EDITS: Final[Sequence[Mapping[str, Any]]] = (
    {"notes": 1, "deleted": True},
    {"notes": 2, "tags/x": True},
    {"notes": 1, "deleted": False},
)
_DOCUMENT: Final = ("workouts", "00000000-0000-4000-8000-000000000001")
_STOPS_TO_COMMIT: Final = 2


class Action(NamedTuple):
    """`what`: an edit, the taking in of a request, or the rest of it."""

    device: str
    what: str


class Fault(NamedTuple):
    """Which round trip fails, counted from 0, and how."""

    device: str
    trip: int
    how: str


def orders() -> Iterator[tuple[Action, ...]]:
    """Every order of all actions that keeps each device's round trips one after another."""
    for first in _words("A"):
        for second in _words("B"):
            size = len(first) + len(second)
            for places in combinations(range(size), len(first)):
                mine, theirs = iter(first), iter(second)
                yield tuple(next(mine) if place in places else next(theirs) for place in range(size))


def _words(device: str) -> Iterator[tuple[Action, ...]]:
    trips = [Action(device, what) for _ in range(TRIPS[device]) for what in ("take in", "answer")]
    size = len(trips) + MADE[device]
    for places in combinations(range(size), MADE[device]):
        rest = iter(trips)
        yield tuple(Action(device, "edit") if place in places else next(rest) for place in range(size))


def faults() -> Iterator[Fault | None]:
    yield None
    for device, trips in TRIPS.items():
        for trip in range(trips):
            for how in ("the server dies", "the answer is lost"):
                yield Fault(device, trip, how)


def play(order: tuple[Action, ...], fault: Fault | None) -> None:
    """Play one history. Raises what goes wrong."""
    plan = Plan(
        seed=0, devices=2, subsets=0, baseless=0, max_paths=100, clocks=(0, 0, 0), ends_with_purge=False, steps=()
    )
    world = World(plan)
    devices = dict(zip("AB", world.devices, strict=True))
    trips = dict.fromkeys("AB", 0)
    to_make = iter(EDITS)
    with world.server.running():
        world.begin()
        for name, what in order:
            world.server.now_ms += 1
            device = devices[name]
            fails = fault is not None and fault[:2] == (name, trips[name])
            if what == "edit":
                world.edit(device, _DOCUMENT, next(to_make))
            elif what == "take in":
                world.server.go_on(world.send(device), _STOPS_TO_COMMIT)
            elif device.flight is not None:
                trips[name] += 1
                if fails and fault is not None and fault.how == "the server dies":
                    device.flight.serving.kill()
                    device.flight = None
                    continue
                world.server.go_on(device.flight)
                if fails:
                    device.flight = None
                else:
                    world.receive(device)
        world.heal()
