"""The port to device grants. Adapter: `device_store_mongo`."""

from typing import Protocol

from fitness_api.identity.authorization.device_grants import Approval, DeviceGrant


class DeviceStore(Protocol):
    """What every adapter keeps to; tests/fitness_api/identity/authorization/test_device_store_mongo.py checks each bullet.

    - Every method is atomic: of any number that decide, or poll, at the same time, in any process, one takes effect.
    - What a method returned is durable, and seen by every later call in any process.
    - Grants that have expired go some time later.
    - Every method raises StoreUnavailable when the database does not answer; what it did may then have taken effect.
    """

    async def add(self, grant: DeviceGrant) -> bool:
        """False: there is one of this name."""
        ...

    async def grant(self, name: str) -> DeviceGrant | None: ...

    async def decide(self, name: str, approval: Approval | None, *, now_ms: int) -> bool:
        """Approve it, or deny it. False: there is none that waits for that."""
        ...

    async def polled(self, after: DeviceGrant) -> bool:
        """Store what a poll made of it. False: another poll, or a decision, came in between."""
        ...
