"""The port to what changes when an account gets another password or address. Adapter: `recovery_store_mongo`."""

from collections.abc import Collection
from typing import Literal, Protocol

from msgspec import Struct

# Which mailbox confirms a change: the one that the account leaves, or the one that it goes to.
Side = Literal["here", "there"]


class EmailChange(Struct, frozen=True, kw_only=True):
    """A change that waits. email: as it was typed; address: the form by which addresses are compared."""

    change_id: str
    email: str
    address: str
    expires_at_ms: int
    confirmed: tuple[Side, ...] = ()


class RecoveryStore(Protocol):
    """What every adapter keeps to; tests/fitness_api/identity/test_recovery_store_mongo.py checks each bullet.

    - An account has one address at a time, and one change of it that waits at most.
    - Every method is atomic but `move`, which is mended by being called again: cut off, the account holds both addresses.
    - What a method returned is durable, and seen by every later call in any process.
    - Of an account that is erased or unknown nothing is changed.
    - Every method raises StoreUnavailable when the database does not answer; all of them may then be called again.
    """

    async def reset_password_hash(self, user_id: str, password_hash: str, *, proven: str) -> bool:
        """Store the hash, and verify the address whose mailbox asked for it, `proven`.

        False: the account is no more, or has another address by now.
        """
        ...

    async def change_password_hash(self, user_id: str, *, before: str | None, after: str | None) -> bool:
        """False: the hash is no more `before`."""
        ...

    async def verify(self, user_id: str, address: str) -> bool:
        """Mark the address as verified while it is the account's; else return False."""
        ...

    async def begin_change(self, user_id: str, change: EmailChange) -> bool:
        """Keep it in the place of any other that waits. False: the account is no more."""
        ...

    async def pending_change(self, user_id: str, *, now_ms: int) -> EmailChange | None: ...

    async def confirm_change(self, user_id: str, change_id: str, side: Side, *, now_ms: int) -> EmailChange | None:
        """Note the confirmation and return the change with it. None: it does not wait (any more)."""
        ...

    async def move(self, user_id: str, change: EmailChange, *, verified: bool) -> str | None:
        """Make the change's address the account's, verified, and free every other that it had; return the one before, as typed.

        None: the change does not wait (any more), or the present address is not as `verified` says. Raises EmailTaken if the address is another account's by now.
        """
        ...

    async def cancel_change(self, user_id: str) -> None: ...


def is_confirmed(confirmed: Collection[Side], *, verified: bool) -> bool:
    """Whether an account moves now: a mailbox that was never proved to be its owner's need not agree that he leaves it."""
    return "there" in confirmed and ("here" in confirmed or not verified)
