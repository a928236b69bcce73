"""The port to what was refused and what lost, of which `Store.update` writes the entries, with the change that made them."""

from collections.abc import Sequence
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from sync.conflicts import Conflict
from sync.quarantine import Rejected

# Of refused changes together, beyond the first: one may be as large as a request.
MAX_LISTED_BYTES: Final = 1024 * 1024

T = TypeVar("T")


class Place(NamedTuple):
    """Of an entry in its list: the newest comes first."""

    at_ms: int
    id: str


class Listed(NamedTuple, Generic[T]):
    entries: Sequence[T]
    has_more: bool


class Log(Protocol):
    """What every adapter keeps to; tests/sync/test_log.py checks each bullet against each adapter.

    - Lists begin with the newest; `below` is the place of the last entry that the caller has.
    - A list has `limit` entries at most; of refused changes fewer where they are over MAX_LISTED_BYTES, but never none.
    - A conflict is gone 30 days after it happened.
    - Another account's ids are as good as unknown ones.
    - Every method raises StoreUnavailable when the database does not answer; all of them may then be called again.
    """

    async def rejected(self, user_id: str, *, below: Place | None, limit: int) -> Listed[Rejected]: ...

    async def rejected_one(self, user_id: str, entry_id: str) -> Rejected | None: ...

    async def conflicts(self, user_id: str, *, below: Place | None, limit: int, now_ms: int) -> Listed[Conflict]: ...

    async def conflict(self, user_id: str, conflict_id: str, *, now_ms: int) -> Conflict | None: ...
