"""The port to the second factors that are kept. Adapter: `store_mongo`."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from fitness_api.identity.factors.second_factors import SecondFactors

T = TypeVar("T")


class FactorStore(Protocol):
    """What every adapter keeps to; tests/fitness_api/identity/factors/test_store_mongo.py checks each bullet.

    - An account of which nothing was stored holds nothing; reading it is no error.
    - `change` is atomic for the account, however many call it at once: each sees what those before it have stored.
    - What a method returned is durable, and seen by every later call in any process.
    - Other accounts keep what they have.
    - Every method raises StoreUnavailable when the database does not answer; all of them may then be called again.
    """

    async def held(self, user_id: str) -> SecondFactors: ...

    async def change(self, user_id: str, decide: Callable[[SecondFactors], tuple[SecondFactors, T]]) -> T:
        """Store the first of what `decide` returns and return the second. It is pure, and may be called again with what
        is newer; where it returns what it was given, or raises, nothing is stored.
        """
        ...
