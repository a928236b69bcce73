"""Values that lost to a writer who had not seen them: kept for their user to look at, and to bring back.

Two registers conflict when neither writer had seen the other's: the stored one came after the `base` that the change's device
knew, from another replica, with another value. Counters never do, as each path has one writer.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from uuid import UUID, uuid5

from msgspec import Struct

from sync import clock, values
from sync.changes import Change
from sync.clock import Stamp
from sync.document import Document, Key, Mark
from sync.schema import COLLECTIONS
from sync.values import Value

KEPT_MS: Final = 30 * 86_400_000

# That one step records. Two phones that were offline for a season make some hundred; a request made to conflict in every
# path that 4 MiB hold would make 700,000 records.
MAX_CONFLICTS: Final = 5_000

_NAMESPACE: Final = UUID("0d4d1c3e-6d5b-5b53-9d61-2f9c2f6a3d51")


class Conflict(Struct, frozen=True, kw_only=True):
    """One path's value that lost, and the register that won over it. `restored_ms`: 0, or when it was brought back."""

    id: str
    key: Key
    path: str
    lost_stamp: Stamp
    lost_value: Value
    won_stamp: Stamp
    won_value: Value
    at_ms: int
    restored_ms: int = 0


def unseen(change: Change, stamp: Stamp, stored: Document) -> Sequence[tuple[str, Mark]]:
    """Return those of the change's paths, with the document's marks, that another replica wrote after what the change's device knew."""
    base = change.base
    if base is None or stored.seq <= base:
        return ()
    replica = clock.replica_of(stamp)
    held, marks, usual = stored.values, stored.marks, stored.usual
    found = [(path, marks.get(path, usual)) for path in change.values if path in held]
    return [(path, mark) for path, mark in found if mark.seq > base and clock.replica_of(mark.stamp) != replica]


def between(
    change: Change, stamp: Stamp, stored: Document, paths: Iterable[tuple[str, Mark]], *, now_ms: int
) -> Iterator[Conflict]:
    """Give the conflicts of a change, under the stamp that it is merged with, among what is `unseen` of the document."""
    for path, mark in paths:
        mine, theirs = change.values[path], stored.values[path]
        if values.same(mine, theirs) or _is_counter(stored.key.collection, path):
            continue
        lost, won = (mine, stamp), (theirs, mark.stamp)
        if stamp > mark.stamp:
            lost, won = won, lost
        yield Conflict(
            id=_id(stored.key, path, *lost),
            key=stored.key,
            path=path,
            lost_stamp=lost[1],
            lost_value=lost[0],
            won_stamp=won[1],
            won_value=won[0],
            at_ms=now_ms,
        )


def _id(key: Key, path: str, value: Value, stamp: Stamp) -> str:
    """Named by what was lost, so that a change that is sent again makes no second entry."""
    register = f"{key.collection}/{key.id}/{path}={clock.to_wire(stamp)} {values.canonical(value).decode()}"
    return str(uuid5(_NAMESPACE, register))


def _is_counter(collection: str, path: str) -> bool:
    spec = COLLECTIONS[collection].get(path.partition("/")[0])
    return spec is not None and spec.shape == "counter"
