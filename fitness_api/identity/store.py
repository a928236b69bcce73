"""The port to what identity keeps. Adapter: `store_mongo`."""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from msgspec import Struct

from fitness_api.identity.accounts import Account
from fitness_api.identity.refresh_tokens import Session
from fitness_api.identity.signing_keys import State, StoredKey

Platform = Literal["ios", "android", "watchos", "wearos", "web"]
PushKind = Literal["fcm_token", "fid"]


class PushAddress(Struct, frozen=True):
    kind: PushKind
    value: str

    def __repr__(self) -> str:
        return f"PushAddress({self.kind}, …)"


class DeviceDetails(Struct, frozen=True, kw_only=True):
    platform: Platform
    app_version: str
    model: str | None = None


class Device(Struct, frozen=True, kw_only=True):
    """replica: None until sync has given one. push_kind: None where it has no push address, or no more."""

    device_id: str
    installation_id: str
    details: DeviceDetails
    replica: int | None = None
    push_kind: PushKind | None = None
    created_at_ms: int
    updated_at_ms: int


class Credentials(Struct, frozen=True):
    user_id: str
    password_hash: str | None

    def __repr__(self) -> str:
        return f"Credentials({self.user_id}, …)"


class Standing(Struct, frozen=True):
    """granted_scopes: those beyond a user's that an operator granted."""

    is_erased: bool
    granted_scopes: tuple[str, ...] = ()


class Store(Protocol):
    """What every adapter keeps to; tests/fitness_api/identity/test_store_mongo.py checks each bullet.

    - An address belongs to one account, whoever asks for it at the same time.
    - Every method is atomic but for those that say otherwise; these are mended by being called again.
    - What a method returned is durable, and seen by every later call in any process.
    - Another account's ids are as good as unknown ones.
    - Every method raises StoreUnavailable when the database does not answer; all of them may then be called again.
    """

    async def add_account(self, account: Account, *, address: str, password_hash: str | None) -> None:
        """Add the account, then claim its address. Cut off in between, an account stays that nobody can log in to.

        Raises EmailTaken, and then keeps nothing of it.
        """
        ...

    async def account(self, user_id: str) -> Account | None:
        """None also for one that is erased."""
        ...

    async def is_erased(self, user_id: str) -> bool: ...

    async def standing(self, user_id: str) -> Standing:
        """Of an unknown account: not erased, and nothing was granted."""
        ...

    async def update_account(self, user_id: str, change: Callable[[Account], Account]) -> Account | None:
        """Store what `change` makes of the account. It is pure, and may be called again with a newer account."""
        ...

    async def credentials(self, address: str) -> Credentials | None:
        """Reads as much for an unknown address as for a known one."""
        ...

    async def has_way_in(self, user_id: str) -> bool:
        """Whether it has a password, or another provider's identity; passkeys are not this store's."""
        ...

    async def replace_password_hash(self, user_id: str, *, before: str, after: str) -> None:
        """Nothing happens where the hash is no more `before`."""
        ...

    async def add_session(self, session: Session) -> None: ...

    async def session(self, user_id: str, session_id: str) -> Session | None: ...

    async def sessions(self, user_id: str) -> list[Session]:
        """The latest used first."""
        ...

    async def advance_session(self, after: Session, *, counter: int) -> bool:
        """Store counter, used_at_ms and expires_at_ms where the counter is still `counter`; else return False."""
        ...

    async def see_generation(self, user_id: str, session_id: str, generation: int) -> None:
        """Raise seen_generation to this; it never falls."""
        ...

    async def end_session(self, user_id: str, session_id: str) -> bool:
        """End the session, then drop the push addresses that it registered (not atomically). False: there was none."""
        ...

    async def claim_device(
        self, user_id: str, installation_id: str, details: DeviceDetails, *, device_id: str, now_ms: int
    ) -> Device:
        """Return the installation's device; the first claim fixes its device id, whoever claims at the same time."""
        ...

    async def set_replica(self, user_id: str, device_id: str, replica: int) -> bool:
        """False: there is no such device any more."""
        ...

    async def withdraw_claim(self, user_id: str, device_id: str) -> None:
        """Remove the device if it has got no replica."""
        ...

    async def device(self, user_id: str, device_id: str) -> Device | None: ...

    async def devices(self, user_id: str) -> list[Device]:
        """Those with a replica, the first registered first."""
        ...

    async def update_device(
        self, user_id: str, device_id: str, details: Mapping[str, str | None], *, now_ms: int
    ) -> bool:
        """Change these members of the details. False: there is no such device."""
        ...

    async def set_push_address(
        self, user_id: str, device_id: str, session_id: str, address: PushAddress, *, now_ms: int
    ) -> bool:
        """Make the address this device's, whosever it was, as long as the session lasts (not atomically).

        False: the device or the session is no more, and the address is nobody's.
        """
        ...

    async def drop_push_address(self, user_id: str, device_id: str) -> None: ...

    async def remove_device(self, user_id: str, device_id: str) -> None:
        """Drop its push address, then the device (not atomically)."""
        ...

    async def signing_keys(self) -> list[StoredKey]: ...

    async def add_signing_key(self, key: StoredKey) -> bool:
        """False: there is one of its state already; one key is current and one is next, whoever adds at the same time."""
        ...

    async def move_signing_key(self, kid: str, before: State, after: State, *, now_ms: int) -> bool:
        """False: it is not in the state `before`, or another is in `after`."""
        ...

    async def drop_signing_key(self, kid: str) -> None:
        """Remove it if it is retired."""
        ...
