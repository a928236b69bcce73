"""A training log to workouts of sets, once: a workout's id follows from the account, the app, its start and its name.

So an export that is sent every month adds what is new and fills what was lacking; what was deleted stays deleted, and what was changed
here stays changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

from fitness_api.bodies import rfc3339
from fitness_api.workouts.strength_csv import Log, LoggedSet, LoggedWorkout
from sync import merge
from sync.document import Key
from sync.merge import Outcome, State
from sync.patch import position
from sync.store import Store
from sync.track_store import COLLECTION
from sync.values import Value

_NAMESPACE: Final = uuid5(NAMESPACE_URL, "urn:fitness-api:training-logs")
# A workout of 200 sets has 1,800 paths; of usual ones a transaction of fifty takes some 20 ms.
_AT_ONCE: Final = 50


class Kept(NamedTuple):
    """workouts: all of the log's, in order. new: how many of them were not there before."""

    workouts: list[str]
    new: int


async def keep(store: Store, log: Log, user_id: str, *, timezone: str, now_ms: int) -> Kept:
    """Called again with the same log, it changes nothing. Raises AccountDeleted and StoreUnavailable."""
    ids = workout_ids(log, user_id)
    logged = {Key(COLLECTION, workout_id): workout for workout_id, workout in zip(ids, log.workouts, strict=True)}
    left = sorted(logged)
    new = 0

    def step(state: State) -> Outcome:
        # Of these alone: all values of a long log at once take hundreds of megabytes.
        given = {key: dict(_values(key.id, log, logged[key], timezone)) for key in state.keys}
        return merge.fill_all(given, state, now_ms=now_ms)

    while left:
        state, _ = await store.update(user_id, left[:_AT_ONCE], (), step)
        new += sum(key not in state.documents for key in state.keys)
        left = left[len(state.keys) :]
    return Kept(ids, new)


def workout_ids(log: Log, user_id: str) -> list[str]:
    return [str(uuid5(_NAMESPACE, f"{user_id}/{log.app}/{one.local_start}/{one.title}")) for one in log.workouts]


def _values(workout_id: str, log: Log, workout: LoggedWorkout, timezone: str) -> Iterator[tuple[str, Value]]:
    yield "title", workout.title
    yield "sport", "strength"
    yield "source", f"{log.app}_import"
    yield "started_at", rfc3339(workout.started_at_ms)
    yield "timezone", timezone
    if workout.ended_at_ms is not None:
        yield "ended_at", rfc3339(workout.ended_at_ms)
    if workout.notes is not None:
        yield "notes", workout.notes
    yield from _sets(UUID(workout_id), workout.sets)


def _sets(workout_id: UUID, sets: Sequence[LoggedSet]) -> Iterator[tuple[str, Value]]:
    for index, one in enumerate(sets):
        members: Mapping[str, Value] = {
            "exercise": one.exercise,
            "kind": one.kind,
            "reps": one.reps,
            "weight_kg": one.weight_kg,
            "distance_m": one.distance_m,
            "duration_s": one.duration_s,
            "rpe": one.rpe,
            "pos": position(index),
        }
        set_id = uuid5(workout_id, f"sets/{index}")
        for name, value in members.items():
            if value is not None:
                yield f"sets/{set_id}/{name}", value
