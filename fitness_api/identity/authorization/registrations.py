"""Registering clients, and telling which one asks."""

import hmac
from collections.abc import Callable, Collection, Iterable
from typing import Final
from uuid import uuid4

from fitness_api.identity import single_use
from fitness_api.identity.authorization import clients
from fitness_api.identity.authorization.client_store import ClientStore
from fitness_api.identity.authorization.clients import Client, GrantType
from fitness_api.identity.errors import OAuthRefused, TooManyClients
from fitness_api.identity.key_ring import wall_clock_ms
from fitness_api.identity.scopes import PAGES
from fitness_api.identity.sessions import Sessions

# Compared where there is no secret, so that it takes as long. Nothing hashes to zeros.
_NONE: Final = bytes(32)
_ENDED_AT_ONCE: Final = 100


class Registrations:
    def __init__(
        self, store: ClientStore, sessions: Sessions, first_party: Client, *, now_ms: Callable[[], int] = wall_clock_ms
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._first_party = first_party
        self._now_ms = now_ms

    async def register(
        self,
        *,
        name: str,
        redirect_uris: Collection[str],
        grant_types: Collection[GrantType],
        scopes: Collection[str],
        confidential: bool,
    ) -> tuple[Client, str | None]:
        """Return the client and its secret, which is not kept. Raises InvalidBody, or TooManyClients."""
        secret = single_use.secret() if confidential else None
        client = clients.registered(
            client_id=str(uuid4()),
            name=name,
            redirect_uris=redirect_uris,
            grant_types=grant_types,
            scopes=scopes,
            secret_digest=None if secret is None else single_use.digest_of(secret),
            now_ms=self._now_ms(),
        )
        if not await self._store.add(client, most=clients.MAX_CLIENTS):
            raise TooManyClients(limit=clients.MAX_CLIENTS)
        return client, secret

    async def client(self, client_id: str) -> Client | None:
        if client_id == self._first_party.client_id:
            return self._first_party
        return await self._store.client(client_id)

    async def names(self, client_ids: Iterable[str]) -> dict[str, str]:
        """Return what users know these clients by; of one that was removed nothing is known."""
        known = {self._first_party.client_id: self._first_party.name, PAGES: f"{self._first_party.name} in a browser"}
        for client_id in set(client_ids) - known.keys():
            client = await self._store.client(client_id)
            if client is not None:
                known[client_id] = client.name
        return known

    async def clients(self, *, after: str, limit: int) -> list[Client]:
        """Return the registered ones; our own app is none of them."""
        return await self._store.clients(after=after, limit=limit)

    async def remove(self, client_id: str) -> bool:
        """Remove the client, then end what was given to it (not atomically: to be called again). False: there was nothing."""
        removed = await self._store.remove(client_id)
        while given := await self._store.sessions_of(client_id, limit=_ENDED_AT_ONCE):
            removed = True
            for user_id, session_id in given:
                await self._sessions.revoke(user_id, session_id)
        return removed

    async def authenticated(self, client_id: str, secret: str | None) -> Client:
        """Raises OAuthRefused (invalid_client) if there is no such client, or the secret is not its own, or is one too many."""
        client = await self.client(client_id)
        expected = _NONE if client is None or client.secret_digest is None else client.secret_digest
        right = hmac.compare_digest(single_use.digest_of(secret or ""), expected)
        if client is None or right != client.confidential or (secret is not None and not client.confidential):
            raise OAuthRefused(
                "invalid_client", "The client is not known, or did not prove that it is itself.", status=401
            )
        return client
