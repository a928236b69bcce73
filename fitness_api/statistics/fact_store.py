"""The port to facts, one for each workout, and to how far they follow its account. Adapter: `fact_store_mongo`."""

from collections.abc import Collection, Sequence
from typing import Protocol

from msgspec import Struct

from fitness_api.statistics.facts import Facts


class Followed(Struct, frozen=True, kw_only=True):
    """Facts are of all workouts up to the account's sequence `seq`, as this version draws them."""

    epoch: int
    seq: int
    version: int


class FactStore(Protocol):
    """What every adapter keeps to; tests/fitness_api/statistics/test_fact_store_mongo.py checks each bullet.

    - Facts are derived: what is lost is drawn again, so that nothing here has to survive but together with `Followed`.
    - Writers that race write the same, as facts follow from documents and samples.
    - Another account's facts are not found.
    - Every method raises sync.errors.StoreUnavailable when the database does not answer; all may then be called again.
    """

    async def followed(self, user_id: str) -> Followed | None: ...

    async def keep(self, user_id: str, drawn: Sequence[Facts], gone: Collection[str]) -> None:
        """Keep these, and remove those of these workouts."""
        ...

    async def advance(self, user_id: str, followed: Followed) -> None:
        """After `keep`: what was cut off in between is drawn again."""
        ...

    async def all(self, user_id: str) -> list[Facts]:
        """In no order."""
        ...

    async def erase(self, user_id: str) -> None:
        """Remove everything of the account. Cut off in between, it is called again."""
        ...
