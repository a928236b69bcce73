"""Whether a recording is of a workout that is there already: the same hour on two devices, or one ride in three formats."""

from collections.abc import Iterable
from typing import Any, Final

from fitness_api.workouts.exports import instant_ms
from fitness_api.workouts.recording import Session
from sync.document import Document
from sync.tracks import is_number

# Two devices are started by one person one after the other; the protocol's numbers.
STARTS_WITHIN_MS: Final = 60_000
LASTS_WITHIN: Final = 0.1


def found(session: Session, workouts: Iterable[Document]) -> Document | None:
    """Return the one that the session is of, the nearest in its start, then in its length, then by id."""
    alike = [(distance, workout) for workout in workouts if (distance := _distance(session, workout)) is not None]
    return min(alike, key=lambda pair: (pair[0], pair[1].key.id), default=(None, None))[1]


def _distance(session: Session, workout: Document) -> tuple[int, float] | None:
    """None: it is another activity."""
    started, length_s = instant_ms(workout.values.get("started_at")), _length_s(workout.values)
    if started is None or length_s is None or workout.deleted or workout.purged:
        return None
    mine_s = session.elapsed_time_s
    if mine_s is None:
        mine_s = (session.ended_at_ms - session.started_at_ms) / 1000
    apart_ms, differs_s = abs(session.started_at_ms - started), abs(mine_s - length_s)
    if apart_ms > STARTS_WITHIN_MS or differs_s > LASTS_WITHIN * length_s:
        return None
    if _contradict(session.sport, workout.values.get("sport")):
        return None
    return apart_ms, differs_s


def _length_s(values: dict[str, Any]) -> float | None:
    elapsed = values.get("elapsed_time_s")
    if is_number(elapsed) and elapsed > 0:
        return float(elapsed)
    started, ended = instant_ms(values.get("started_at")), instant_ms(values.get("ended_at"))
    return None if started is None or ended is None or ended <= started else (ended - started) / 1000


def _contradict(one: str, other: Any) -> bool:
    """`other` says no more than that the device knew of no name for it."""
    return isinstance(other, str) and one != other and "other" not in (one, other)
