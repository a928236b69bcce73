"""The port to the memory of DPoP proofs that were used. Adapter: `dpop_replays_redis`."""

from typing import Protocol


class Replays(Protocol):
    """What every adapter keeps to; tests/fitness_api/identity/test_dpop_replays_redis.py checks each bullet.

    - Of all calls with one mark, in any process and at any time within `for_s` of the first, that one is answered by True.
    - Raises StoreUnavailable if that cannot be told: then nothing is accepted.
    """

    async def first(self, mark: bytes, *, for_s: int) -> bool: ...
