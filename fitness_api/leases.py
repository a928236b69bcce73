"""The port to leases: who of many processes does a thing that is to be done by one at a time. Adapter: `leases_mongo`."""

from typing import Protocol


class Leases(Protocol):
    """What every adapter keeps to; tests/fitness_api/test_leases_mongo.py checks each bullet.

    - A name has one holder at most, whoever asks at the same time, and none once the time is over that its holder asked for:
      what died holding it holds nothing up.
    - Times are measured by the database's clock alone, so that the processes' clocks may differ.
    - Every method raises sync.errors.StoreUnavailable when the database does not answer; all may then be called again.
    """

    async def take(self, name: str, holder: str, *, for_s: int) -> bool:
        """Take the lease, or keep it for so long from now. False: another one holds it."""
        ...

    async def leave(self, name: str, holder: str) -> None:
        """Let go of it, if it is still the holder's."""
        ...
