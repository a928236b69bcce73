"""The port to identities that are linked to accounts. Adapter: `store_mongo`."""

from typing import Protocol

from fitness_api.identity.accounts import Account
from fitness_api.identity.federation.identities import Holder, Identity


class IdentityStore(Protocol):
    """What every adapter keeps to; tests/fitness_api/identity/federation/test_store_mongo.py checks each bullet.

    - An identity is one account's at most, whoever links it at the same time, in any process.
    - Methods that write say whether they did. What is cut off leaves nobody's way into any account open, and is mended by the
      same sign-in coming again.
    - What a method returned is durable, and seen by every later call in any process.
    - An account that was erased is none.
    - Every method raises StoreUnavailable when the database does not answer; all of them may then be called again.
    """

    async def owner(self, key: str) -> Holder | None:
        """Return the account that the identity opens."""
        ...

    async def holder_of(self, address: str) -> Holder | None: ...

    async def holder(self, user_id: str) -> Holder | None: ...

    async def make(self, account: Account, *, address: str, identity: Identity) -> bool:
        """Add an account without a password that the identity opens. False: the address or the identity is another's by now."""
        ...

    async def link(self, user_id: str, identity: Identity) -> bool:
        """Make the identity this account's; nothing changes where it is that already. False: it is another's.

        Raises TooManyIdentities.
        """
        ...

    async def void(self, holder: Holder) -> Holder | None:
        """Take its password and all its identities from an account whose address was never verified, and return how it stands
        then. None: it is none, or `holder` is not how it still stands.
        """
        ...

    async def give(self, holder: Holder, identity: Identity) -> bool:
        """Verify the address of an account that was never, with this identity as its only way in. False: the identity is
        another's, or `holder` is not how the account still stands.
        """
        ...

    async def unlink(self, holder: Holder, identity_id: str) -> bool:
        """Remove the identity if `holder` is how the account still stands. False: it is not."""
        ...
