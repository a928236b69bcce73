"""The port to what was refused and what lost, of which `Store.update` writes the entries, with the change that made them."""

from typing import NamedTuple, Protocol

from sync.conflicts import Conflict
from sync.quarantine import Rejected


class Place(NamedTuple):
    """Of an entry in its list: the newest comes first."""

    at_ms: int
    id: str


class Log(Protocol):
    """What every adapter keeps to; tests/sync/test_log.py checks each bullet against each adapter.

    - Lists begin with the newest; `below` is the place of the last entry that the caller has.
    - A conflict is gone 30 days after it happened.
    - Another account's ids are as good as unknown ones.
    - Every method raises StoreUnavailable when the database does not answer; all of them may then be called again.
    """

    async def rejected(self, user_id: str, *, below: Place | None, limit: int) -> list[Rejected]: ...

    async def rejected_one(self, user_id: str, entry_id: str) -> Rejected | None: ...

    async def conflicts(self, user_id: str, *, below: Place | None, limit: int, now_ms: int) -> list[Conflict]: ...

    async def conflict(self, user_id: str, conflict_id: str, *, now_ms: int) -> Conflict | None: ...

    async def trim_rejected(self, user_id: str, *, most_bytes: int) -> int:
        """Remove the oldest entries beyond so many bytes. Return the bytes of what is left."""
        ...
