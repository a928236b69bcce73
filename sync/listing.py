"""The port to workouts in the order in which they began. Adapter: `listing_mongo`."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from sync.document import Document

# Of a page together, beyond its first document: a client on a train holds it, and so do we.
MAX_PAGE_BYTES: Final = 1024 * 1024


class Began(NamedTuple):
    """A workout's place: those without a `started_at` come last. `started_at`: RFC 3339, UTC, with milliseconds."""

    started_at: str | None
    id: str


class Page(NamedTuple):
    workouts: Sequence[Document]
    has_more: bool


class Listing(Protocol):
    """What every adapter keeps to; tests/sync/test_listing_mongo.py checks each bullet.

    - Workouts come by `started_at`, the latest first, then by id; deleted ones do not come.
    - A page has `limit` workouts at most, fewer where they are over MAX_PAGE_BYTES, but never none while there are some.
    - What an update returned before is seen.
    - Another account's workouts are not found.
    - StoreUnavailable is raised when the database does not answer; the same may then be asked again.
    """

    async def began(
        self,
        user_id: str,
        *,
        sport: str | None = None,
        since: str | None = None,
        before: str | None = None,
        below: Began | None = None,
        limit: int,
    ) -> Page:
        """Return those that began at `since` or later and before `before`; with either, workouts without a beginning do not come.

        below: the place of the last one that the caller has.
        """
        ...
