"""An account's installations of the app, each with its replica number and, perhaps, its push address."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol
from uuid import uuid4

from fitness_api.identity.errors import StoreUnavailable
from fitness_api.identity.key_ring import wall_clock_ms
from fitness_api.identity.store import Device, DeviceDetails, PushAddress, Store
from sync.errors import AccountDeleted, ReplicasExhausted, TooManyDevices

# Each round means that the device was removed while it was being registered.
MAX_ATTEMPTS: Final = 3


class Replicas(Protocol):
    """What of the sync store gives out replica numbers; the whole contract is there."""

    async def register_device(self, user_id: str, device_id: str) -> int: ...

    async def forget_device(self, user_id: str, device_id: str) -> None: ...


class Registered(NamedTuple):
    device_id: str
    replica: int
    first: bool


class Devices:
    def __init__(self, store: Store, replicas: Replicas, *, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self._store = store
        self._replicas = replicas
        self._now_ms = now_ms

    async def register(
        self,
        user_id: str,
        session_id: str,
        installation_id: str,
        details: DeviceDetails,
        push: PushAddress | None = None,
    ) -> Registered:
        """Register an installation, or again: it keeps its device id and replica, however many ask at the same time.

        Cut off in between, it is made good by asking again. A push address belongs to its last registrant, and goes
        with the session; without one, the device keeps what it has. `first`: this call is what made the device.
        Raises TooManyDevices, ReplicasExhausted or AccountDeleted of sync, and StoreUnavailable also if it is removed all the while.
        """
        first = False
        for _ in range(MAX_ATTEMPTS):
            proposed = str(uuid4())
            device = await self._store.claim_device(
                user_id, installation_id, details, device_id=proposed, now_ms=self._now_ms()
            )
            first = first or device.device_id == proposed
            try:
                # Asked even where a replica is stored: a removal that was cut off may have let sync forget the device.
                replica = await self._replicas.register_device(user_id, device.device_id)
            except (TooManyDevices, ReplicasExhausted, AccountDeleted):
                await self._store.withdraw_claim(user_id, device.device_id)
                raise
            if await self._store.set_replica(user_id, device.device_id, replica):
                break
            await self._replicas.forget_device(user_id, device.device_id)
        else:
            raise StoreUnavailable("The device was removed while it was being registered.")
        if push is not None:
            await self._store.set_push_address(user_id, device.device_id, session_id, push, now_ms=self._now_ms())
        return Registered(device.device_id, replica, first)

    async def of(self, user_id: str) -> list[Device]:
        return await self._store.devices(user_id)

    async def change(
        self,
        user_id: str,
        session_id: str,
        device_id: str,
        details: Mapping[str, str | None],
        *,
        push: PushAddress | None = None,
        drop_push: bool = False,
    ) -> Device | None:
        """Change these members of the details, and the push address. None: the account has no such device."""
        if not await self._store.update_device(user_id, device_id, details, now_ms=self._now_ms()):
            return None
        if push is not None:
            await self._store.set_push_address(user_id, device_id, session_id, push, now_ms=self._now_ms())
        elif drop_push:
            await self._store.drop_push_address(user_id, device_id)
        return await self._store.device(user_id, device_id)

    async def remove(self, user_id: str, device_id: str) -> bool:
        """False: the account has no such device."""
        if await self._store.device(user_id, device_id) is None:
            return False
        await self._replicas.forget_device(user_id, device_id)
        await self._store.remove_device(user_id, device_id)
        # Once more: a registration under way may have brought it back to sync before its document went.
        await self._replicas.forget_device(user_id, device_id)
        return True
