"""The port to facts, one for each workout, and to how far they follow its account. Adapter: `fact_store_mongo`."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from fitness_api.statistics.facts import Facts


class Followed(Struct, frozen=True, kw_only=True):
    """Facts are of all workouts up to the account's sequence `seq`, as this version draws them."""

    epoch: int
    seq: int
    version: int


class Drawn(NamedTuple):
    """What a workout's document came to at this sequence of its account; None: to nothing, as it is deleted or tells no time."""

    workout_id: str
    seq: int
    facts: Facts | None


class FactStore(Protocol):
    """What every adapter keeps to; tests/fitness_api/statistics/test_fact_store_mongo.py checks each bullet.

    - Facts are derived: what is lost is drawn again, so that nothing here has to survive but together with `Followed`.
    - Of writers of one epoch and version that race the later sequence of each workout stays, and `followed` never goes back but to another epoch or version.
    - Another account's facts are not found.
    - Every method raises sync.errors.StoreUnavailable when the database does not answer; all may then be called again.
    """

    async def followed(self, user_id: str) -> Followed | None: ...

    async def keep(self, user_id: str, drawn: Sequence[Drawn], of: Followed) -> None:
        """Of another epoch or version takes the place of what is there; of the same, what has a later sequence."""
        ...

    async def advance(self, user_id: str, followed: Followed) -> None:
        """After `keep`: what was cut off in between is drawn again."""
        ...

    async def all(self, user_id: str, of: Followed) -> list[Facts]:
        """Return those of this epoch and version, in no order."""
        ...

    async def erase(self, user_id: str) -> None:
        """Remove everything of the account. Cut off in between, it is called again."""
        ...
