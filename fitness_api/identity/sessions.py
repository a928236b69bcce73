"""Beginning, refreshing and ending a session, and telling who calls."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar
from uuid import uuid4

from msgspec import Struct

from fitness_api.errors import NotAuthenticated
from fitness_api.identity import access_tokens, refresh_tokens
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.errors import (
    AccessTokenExpired,
    AccessTokenInvalid,
    AccountDeleted,
    GrantInvalid,
    InvalidCredentials,
    ReauthenticationRequired,
    ScopeExceeded,
    SigningKeyUnknown,
)
from fitness_api.identity.key_ring import KeyRing, wall_clock_ms
from fitness_api.identity.refresh_tokens import Advance, Expired, Repeat, Replay, Session
from fitness_api.identity.signing_keys import PublicJWK
from fitness_api.identity.store import Store

FIRST_PARTY: Final = "app"  # the client id of our own apps
USER_SCOPES: Final = (
    "sync",
    "workouts:read",
    "workouts:write",
    "live:publish",
    "live:watch",
    "notifications",
    "account",
)

RECHECK_MS: Final = 5_000  # within this time an ended session is known to every process; the contract's number
RECENT_LOGIN_S: Final = (
    300  # what cannot be taken back is not for whoever finds a phone unlocked; the contract's number
)
MAX_SESSIONS: Final = 100  # of one account; more devices than anybody has, and few enough to list
MAX_USER_AGENT: Final = 200  # what a person needs to recognise a browser; the rest is not worth keeping
# Some kilobyte each. Beyond that many callers within minutes a process verifies some signatures again.
MAX_REMEMBERED: Final = 10_000

K = TypeVar("K")
V = TypeVar("V")


class TokenPair(Struct, frozen=True, kw_only=True):
    """`scope` is space-separated, `expires_in` the access token's life in seconds."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105  RFC 6750's word
    expires_in: int
    refresh_token: str
    scope: str


class _Checked(NamedTuple):
    """When a session was last known to hold, and which generation of its access tokens had been seen by then."""

    at_ms: int
    seen_generation: int


class _Remembered(Generic[K, V]):
    """The latest used entries, so many at most."""

    def __init__(self) -> None:
        self._entries: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_REMEMBERED:
            self._entries.popitem(last=False)

    def forget(self, key: K) -> None:
        self._entries.pop(key, None)

    def forget_all(self, is_meant: Callable[[K], bool]) -> None:
        for key in [key for key in self._entries if is_meant(key)]:
            del self._entries[key]


class Sessions:
    """`issuer` is the public URL: access tokens are issued by it and for it.

    on_end: called with the account of each session that was ended here; it must neither wait nor raise.
    """

    def __init__(
        self,
        store: Store,
        keys: KeyRing,
        *,
        issuer: str,
        master_key: bytes,
        now_ms: Callable[[], int] = wall_clock_ms,
        on_end: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._keys = keys
        self._issuer = issuer
        self._refresh_key = refresh_tokens.derive_key(master_key)
        self._now_ms = now_ms
        self._on_end = on_end
        self._verified: _Remembered[str, Principal] = _Remembered()
        self._checked: _Remembered[tuple[str, str], _Checked] = _Remembered()

    async def begin(
        self,
        user_id: str,
        *,
        client_id: str = FIRST_PARTY,
        scopes: tuple[str, ...] = USER_SCOPES,
        methods: tuple[str, ...],
        user_agent: str = "",
        key_thumbprint: str | None = None,
    ) -> TokenPair:
        """Begin a session of who has proved by `methods` who they are. Raises InvalidCredentials if the account was erased."""
        session = refresh_tokens.begin(
            user_id=user_id,
            session_id=str(uuid4()),
            client_id=client_id,
            scopes=scopes,
            methods=methods,
            user_agent=user_agent[:MAX_USER_AGENT],
            key_thumbprint=key_thumbprint,
            now_ms=self._now_ms(),
        )
        await self._store.add_session(session)
        if await self._store.is_erased(user_id):
            # Its sessions may have been ended before this one was there.
            await self.revoke(user_id, session.session_id)
            raise InvalidCredentials
        for old in (await self._store.sessions(user_id))[MAX_SESSIONS:]:
            await self.revoke(user_id, old.session_id)
        return await self._pair(session, None)

    async def refresh(
        self, refresh_token: str, *, client_id: str = FIRST_PARTY, scopes: frozenset[str] | None = None
    ) -> TokenPair:
        """Rotate. `scopes` narrows the access token's, not the session's.

        Raises GrantInvalid, after ending the session if somebody else holds the token too, ScopeExceeded, or AccountDeleted.
        """
        token = refresh_tokens.read(refresh_token, self._refresh_key)
        if token is None:
            raise GrantInvalid("This is not a refresh token.")
        if await self._store.is_erased(token.user_id):
            raise AccountDeleted(token.user_id)
        while (session := await self._store.session(token.user_id, token.session_id)) is not None:
            if session.client_id != client_id:
                raise GrantInvalid("The refresh token was issued to another client.")
            if scopes is not None and not scopes <= frozenset(session.scopes):
                raise ScopeExceeded(scopes - frozenset(session.scopes))
            match refresh_tokens.decide(token.counter, session, self._now_ms()):
                case Advance(after):
                    if await self._store.advance_session(after, counter=session.counter):
                        return await self._pair(after, scopes)
                    # The counter moved on since it was read, and never moves back: decide on the new one.
                case Repeat():
                    return await self._pair(session, scopes)
                case Expired():
                    break
                case Replay():
                    await self.revoke(token.user_id, token.session_id)
                    raise GrantInvalid("The refresh token was used before; the session has been ended.")
        raise GrantInvalid("The session has ended.")

    async def revoke(self, user_id: str, session_id: str) -> bool:
        """End a session; here at once, in other processes within RECHECK_MS. False: there was none."""
        ended = await self._store.end_session(user_id, session_id)
        self._checked.forget((user_id, session_id))
        self._on_end(user_id)
        return ended

    async def revoke_token(self, token: str, *, client_id: str = FIRST_PARTY) -> None:
        """End the session of a refresh or access token (RFC 7009); one that does not hold is no error."""
        refresh = refresh_tokens.read(token, self._refresh_key)
        if refresh is not None:
            session = await self._store.session(refresh.user_id, refresh.session_id)
            if session is not None and session.client_id == client_id:
                await self.revoke(refresh.user_id, refresh.session_id)
            return
        try:
            principal = await self._verify(token)
        except AccessTokenInvalid:
            return
        if principal.client_id == client_id:
            await self.revoke(principal.user_id, principal.session_id)

    async def of(self, user_id: str) -> list[Session]:
        now_ms = self._now_ms()
        # The database's own sweep of what has expired comes within a minute, not at once.
        return [session for session in await self._store.sessions(user_id) if session.expires_at_ms > now_ms]

    async def authenticate(self, authorization: str | None) -> Principal:
        """Tell who calls, from the Authorization header.

        Raises NotAuthenticated if no token came, it does not hold, or its session has ended; AccountDeleted instead of the
        latter two, however old the token is, if that is why.
        """
        token = _bearer(authorization)
        principal = self._verified.get(token)
        if principal is None:
            try:
                principal = await self._verify(token)
            except AccessTokenExpired as expired:
                raise await self.refusal(expired.user_id, str(expired)) from None
            except AccessTokenInvalid as error:
                raise NotAuthenticated(str(error)) from None
            self._verified.put(token, principal)
        if not await self.holds(principal):
            raise await self.refusal(principal.user_id, "The session has ended, or its access token has.")
        return principal

    async def refusal(self, user_id: str, detail: str) -> NotAuthenticated | AccountDeleted:
        """Return what to tell the holder of a token of this account that does not hold."""
        return AccountDeleted(user_id) if await self._store.is_erased(user_id) else NotAuthenticated(detail)

    def require_recent_login(self, principal: Principal) -> None:
        """Raises ReauthenticationRequired if the session's login, whatever was refreshed since, is too long ago."""
        if self._now_ms() // 1000 - principal.authenticated_at_s >= RECENT_LOGIN_S:
            raise ReauthenticationRequired(max_age_s=RECENT_LOGIN_S)

    def forget(self, user_id: str) -> None:
        """Read the account's sessions anew before one of its tokens holds again in this process."""
        self._checked.forget_all(lambda key: key[0] == user_id)

    async def holds(self, principal: Principal) -> bool:
        """Whether the token has not expired, its session goes on and its account is there, as of RECHECK_MS ago at most.

        The first sight of a token's generation is recorded: its refresh token has arrived.
        """
        now_ms = self._now_ms()
        if principal.expires_at_s * 1000 <= now_ms:
            return False
        key = (principal.user_id, principal.session_id)
        known = self._checked.get(key)
        if known and 0 <= now_ms - known.at_ms < RECHECK_MS and principal.generation <= known.seen_generation:
            return True
        session = await self._store.session(*key)
        # The account too: an erasure that was cut off may have left its sessions.
        if session is None or session.expires_at_ms <= now_ms or await self._store.is_erased(principal.user_id):
            self._checked.forget(key)
            return False
        if session.seen_generation < principal.generation:
            await self._store.see_generation(*key, principal.generation)
        self._checked.put(key, _Checked(now_ms, max(session.seen_generation, principal.generation)))
        return True

    async def goes_on(self, principal: Principal) -> bool:
        """As `holds`, and as of now. Raises StoreUnavailable."""
        self._checked.forget((principal.user_id, principal.session_id))
        return await self.holds(principal)

    async def published_keys(self) -> tuple[PublicJWK, ...]:
        """Return every key that a valid token may be signed with, the next one included."""
        return await self._keys.published()

    async def _verify(self, token: str) -> Principal:
        """Raises AccessTokenInvalid."""
        now_s = self._now_ms() // 1000
        try:
            keys = await self._keys.verifying()
            return access_tokens.verify(token, keys, now_s, issuer=self._issuer, audience=self._issuer)
        except SigningKeyUnknown:
            keys = await self._keys.verifying_unknown()
            return access_tokens.verify(token, keys, now_s, issuer=self._issuer, audience=self._issuer)

    async def _pair(self, session: Session, scopes: frozenset[str] | None) -> TokenPair:
        granted = session.scopes if scopes is None else tuple(scope for scope in session.scopes if scope in scopes)
        access_token = access_tokens.mint(
            await self._keys.current(),
            issuer=self._issuer,
            audience=self._issuer,
            user_id=session.user_id,
            session_id=session.session_id,
            client_id=session.client_id,
            scopes=granted,
            generation=session.counter,
            authenticated_at_s=session.authenticated_at_ms // 1000,
            methods=session.methods,
            key_thumbprint=session.key_thumbprint,
            now_s=self._now_ms() // 1000,
            token_id=str(uuid4()),
        )
        return TokenPair(
            access_token=access_token,
            expires_in=access_tokens.LIFETIME_S,
            refresh_token=refresh_tokens.mint(session, self._refresh_key),
            scope=" ".join(granted),
        )


def _bearer(authorization: str | None) -> str:
    """RFC 6750 section 2.1; the scheme is compared without case (RFC 9110 section 11.1)."""
    if not authorization:
        raise NotAuthenticated("This needs an access token.", error=None)
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthenticated("This needs an access token, as Authorization: Bearer.", error=None)
    return token.strip()
