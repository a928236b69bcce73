"""The port to what identity keeps of an account that is erased. Adapter: `erasure_store_mongo`."""

from typing import Literal, Protocol

from msgspec import Struct

Stage = Literal["begun", "swept"]


class Gravestone(Struct, frozen=True, kw_only=True):
    """What stays of an account: that it was, and when it was erased.

    stage: `begun` until all of it was removed once, `swept` until that was done again after a while, then None.
    """

    user_id: str
    erased_at_ms: int
    stage: Stage | None


class ErasureStore(Protocol):
    """What every adapter keeps to; tests/fitness_api/identity/test_erasure_store_mongo.py checks each bullet.

    - `bury` is atomic: there is the account, or its gravestone with nothing of the account in it but a hash of its address.
    - The other methods remove what they name, also what was written while they ran and before they ended. They are not
      atomic; what was cut off is mended by being called again.
    - What a method did is durable, and seen by every later call in any process.
    - Other accounts keep what they have.
    - Every method raises StoreUnavailable when the database does not answer; all of them may then be called again.
    """

    async def bury(self, user_id: str, *, now_ms: int) -> Gravestone:
        """Put a gravestone in the account's place, also in an unknown one's, or return the one that is there."""
        ...

    async def gravestone(self, user_id: str) -> Gravestone | None: ...

    async def of_address(self, address: str) -> list[Gravestone]:
        """Return those of accounts that had this normalised address, as long as that is known."""
        ...

    async def forget_addresses(self, *, erased_before_ms: int) -> None:
        """Drop the hashes of addresses from gravestones that are older."""
        ...

    async def advance(self, gravestone: Gravestone, stage: Stage | None) -> None:
        """Set the stage where it is still the gravestone's."""
        ...

    async def unfinished(self, *, after: str) -> list[Gravestone]:
        """Return the next gravestones with a stage, by user id: so many at a time, none at the end."""
        ...

    async def end_logins(self, user_id: str) -> None:
        """Remove all by which somebody is or gets logged in, addresses last: then they may be registered anew."""
        ...

    async def remove_rest(self, user_id: str) -> None:
        """Remove what else identity and mail keep: devices and push addresses, the audit log."""
        ...


class ErasureOutbox(Protocol):
    """Erasures that are still to be told to whoever keeps copies: the warehouse.

    - An erasure is in it from the moment that `bury` returned, whatever process dies when, until `told`.
    - It may be told twice, so that whoever hears of it goes by the user id. What still arrives of the account later is to be dropped.
    """

    async def untold(self, *, after: str) -> list[Gravestone]:
        """Return the next of them, by user id: so many at a time, none at the end."""
        ...

    async def told(self, user_id: str) -> None: ...
