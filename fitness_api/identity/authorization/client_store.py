"""The port to the registered clients. Adapter: `client_store_mongo`."""

from typing import Protocol

from fitness_api.identity.authorization.clients import Client


class ClientStore(Protocol):
    """What every adapter keeps to; tests/fitness_api/identity/authorization/test_client_store_mongo.py checks each bullet.

    - What a method returned is durable, and seen by every later call in any process.
    - Every method raises StoreUnavailable when the database does not answer; all of them may then be called again.
    """

    async def add(self, client: Client, *, most: int) -> bool:
        """False: there are `most` already. Those that add at the same time may be a few more."""
        ...

    async def client(self, client_id: str) -> Client | None: ...

    async def clients(self, *, after: str, limit: int) -> list[Client]:
        """Return the next ones by their ids."""
        ...

    async def remove(self, client_id: str) -> bool:
        """False: there was none."""
        ...

    async def sessions_of(self, client_id: str, *, limit: int) -> list[tuple[str, str]]:
        """Return sessions that were given to it, by user id and session id; asks every shard."""
        ...
