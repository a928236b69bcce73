"""Tells a client what a token of its own still allows. Source: RFC 7662."""

from msgspec import Struct

from fitness_api.errors import NotAuthenticated
from fitness_api.identity import refresh_tokens
from fitness_api.identity.authorization.clients import Client
from fitness_api.identity.errors import AccountDeleted
from fitness_api.identity.sessions import Sessions
from fitness_api.identity.store import Store


class Allowed(Struct, frozen=True, kw_only=True):
    """key_thumbprint: of the key that it is bound to, None: whoever holds it may use it."""

    user_id: str
    scopes: tuple[str, ...]
    expires_at_s: int
    key_thumbprint: str | None


class Introspection:
    def __init__(self, sessions: Sessions, store: Store, *, master_key: bytes) -> None:
        self._sessions = sessions
        self._store = store
        self._key = refresh_tokens.derive_key(master_key)

    async def of(self, token: str, client: Client) -> Allowed | None:
        """None: it allows nothing (any more), or is another client's."""
        refresh = refresh_tokens.read(token, self._key)
        if refresh is None:
            return await self._of_access_token(token, client)
        session = await self._sessions.one(refresh.user_id, refresh.session_id)
        if session is None or (session.client_id, session.counter) != (client.client_id, refresh.counter):
            return None
        if await self._store.is_erased(refresh.user_id):
            return None
        return Allowed(
            user_id=session.user_id,
            scopes=session.scopes,
            expires_at_s=session.expires_at_ms // 1_000,
            key_thumbprint=session.key_thumbprint,
        )

    async def _of_access_token(self, token: str, client: Client) -> Allowed | None:
        try:
            principal = await self._sessions.principal_of(token, anew=True)
        except (NotAuthenticated, AccountDeleted):
            return None
        if principal.client_id != client.client_id:
            return None
        return Allowed(
            user_id=principal.user_id,
            scopes=tuple(sorted(principal.scopes)),
            expires_at_s=principal.expires_at_s,
            key_thumbprint=principal.key_thumbprint,
        )
