"""Beginning, refreshing and ending a session, and telling who calls."""

from collections.abc import Callable
from typing import Final, NamedTuple
from uuid import uuid4

from msgspec import Struct

from fitness_api.errors import NotAuthenticated
from fitness_api.identity import access_tokens, refresh_tokens
from fitness_api.identity import scopes as scopes_of
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.audit import Origin
from fitness_api.identity.audit_log import AuditLog
from fitness_api.identity.dpop import Asked
from fitness_api.identity.errors import (
    AccessTokenExpired,
    AccessTokenInvalid,
    AccountDeleted,
    DpopProofInvalid,
    GrantInvalid,
    InvalidCredentials,
    ReauthenticationRequired,
    ScopeExceeded,
    SigningKeyUnknown,
)
from fitness_api.identity.key_ring import KeyRing, wall_clock_ms
from fitness_api.identity.possession import SCHEME, Possession
from fitness_api.identity.refresh_tokens import Advance, Expired, Repeat, Replay, Session
from fitness_api.identity.remembered import Remembered
from fitness_api.identity.signing_keys import PublicJWK
from fitness_api.identity.store import Standing, Store

FIRST_PARTY: Final = scopes_of.FIRST_PARTY
USER_SCOPES: Final = scopes_of.USER_SCOPES

RECHECK_MS: Final = 5_000  # within this time an ended session is known to every process; the protocol's number
RECENT_LOGIN_S: Final = (
    300  # what cannot be taken back is not for whoever finds a phone unlocked; the protocol's number
)
MAX_SESSIONS: Final = 100  # of one account; more devices than anybody has, and few enough to list
MAX_USER_AGENT: Final = 200  # what a person needs to recognise a browser; the rest is not worth keeping
# Some kilobyte each. Beyond that many callers within minutes a process verifies some signatures again.
MAX_REMEMBERED: Final = 10_000


class TokenPair(Struct, frozen=True, kw_only=True):
    """`scope` is space-separated, `expires_in` the access token's life in seconds. `token_type` is DPoP where the tokens are bound
    to the client's key (RFC 9449).
    """

    access_token: str
    token_type: str = "Bearer"  # noqa: S105  RFC 6750's word
    expires_in: int
    refresh_token: str
    scope: str


class _Checked(NamedTuple):
    """When a session was last known to hold, and which generation of its access tokens had been seen by then."""

    at_ms: int
    seen_generation: int


class Sessions:
    """`issuer` is the public URL: access tokens are issued by it and for it.

    possession: None: a token that is bound to a key never holds. on_end: called with the account, and the session, of each that
    was ended here; it must neither wait nor raise.
    """

    def __init__(
        self,
        store: Store,
        keys: KeyRing,
        audit: AuditLog,
        *,
        issuer: str,
        master_key: bytes,
        possession: Possession | None = None,
        now_ms: Callable[[], int] = wall_clock_ms,
        on_end: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._store = store
        self._keys = keys
        self._audit = audit
        self._issuer = issuer
        self._refresh_key = refresh_tokens.derive_key(master_key)
        self._possession = possession
        self._now_ms = now_ms
        self._on_end = on_end
        # Of so many tokens the signature is known to hold, under the keys of then.
        self._verified: Remembered[str, Principal] = Remembered(MAX_REMEMBERED)
        self._verified_with: object = None
        self._checked: Remembered[tuple[str, str], _Checked] = Remembered(MAX_REMEMBERED)
        # How often something was forgotten: what was read before that is not remembered.
        self._forgotten = 0

    async def begin(
        self,
        user_id: str,
        *,
        client_id: str = FIRST_PARTY,
        scopes: tuple[str, ...] = USER_SCOPES,
        methods: tuple[str, ...],
        user_agent: str = "",
        key_thumbprint: str | None = None,
        session_id: str | None = None,
        authenticated_at_ms: int | None = None,
        lifetime_ms: int | None = None,
    ) -> TokenPair:
        """Begin a session of who has proved by `methods` who they are.

        authenticated_at_ms: where they did so before. lifetime_ms: where it ends before others do, whatever is refreshed.
        Raises InvalidCredentials if the account was erased.
        """
        session = refresh_tokens.begin(
            user_id=user_id,
            session_id=session_id or str(uuid4()),
            authenticated_at_ms=authenticated_at_ms,
            lifetime_ms=lifetime_ms,
            client_id=client_id,
            scopes=scopes,
            methods=methods,
            user_agent=user_agent[:MAX_USER_AGENT],
            key_thumbprint=key_thumbprint,
            now_ms=self._now_ms(),
        )
        await self._store.add_session(session)
        standing = await self._store.standing(user_id)
        if standing.is_erased:
            # Its sessions may have been ended before this one was there.
            await self.revoke(user_id, session.session_id)
            raise InvalidCredentials
        for old in (await self._store.sessions(user_id))[MAX_SESSIONS:]:
            await self.revoke(user_id, old.session_id)
        return await self._pair(session, _allowed(session, standing))

    async def refresh(
        self,
        refresh_token: str,
        *,
        client_id: str = FIRST_PARTY,
        scopes: frozenset[str] | None = None,
        key_thumbprint: str | None = None,
        origin: Origin | None = None,
    ) -> TokenPair:
        """Rotate. `scopes` narrows the access token's, not the session's. `key_thumbprint` is of the key that the caller proved.

        Raises GrantInvalid, after ending the session if somebody else holds the token too; DpopProofInvalid, ScopeExceeded, or
        AccountDeleted.
        """
        token = refresh_tokens.read(refresh_token, self._refresh_key)
        if token is None:
            raise GrantInvalid("This is not a refresh token.")
        standing = await self._store.standing(token.user_id)
        if standing.is_erased:
            raise AccountDeleted(token.user_id)
        while (session := await self._store.session(token.user_id, token.session_id)) is not None:
            if session.client_id != client_id:
                raise GrantInvalid("The refresh token was issued to another client.")
            _require_key(session, key_thumbprint)
            allowed = _allowed(session, standing)
            if scopes is not None and not scopes <= frozenset(allowed):
                raise ScopeExceeded(scopes - frozenset(allowed))
            granted = allowed if scopes is None else tuple(scope for scope in allowed if scope in scopes)
            match refresh_tokens.decide(token.counter, session, self._now_ms()):
                case Advance(after):
                    if await self._store.advance_session(after, counter=session.counter):
                        return await self._pair(after, granted)
                    # The counter moved on since it was read, and never moves back: decide on the new one.
                case Repeat():
                    return await self._pair(session, granted)
                case Expired():
                    break
                case Replay():
                    # On record before it is done: cut off in between, the next replay does both again.
                    await self._audit.record(
                        token.user_id,
                        "refresh_token_replayed",
                        origin=origin or Origin(),
                        session_id=token.session_id,
                    )
                    await self.revoke(token.user_id, token.session_id)
                    raise GrantInvalid("The refresh token was used before; the session has been ended.")
        raise GrantInvalid("The session has ended.")

    async def revoke(self, user_id: str, session_id: str, *, origin: Origin | None = None) -> bool:
        """End a session, in every process within a second, or within RECHECK_MS without Redis. False: there was none.

        `origin`: who asked for it, for the record; None: nobody did.
        """
        try:
            ended = await self._store.end_session(user_id, session_id)
        finally:
            # Also where it is not known whether it took effect: whoever asks reads it anew.
            self.forget(user_id, session_id)
            self._on_end(user_id, session_id)
        if ended and origin is not None:
            await self._audit.record(user_id, "session_ended", origin=origin, session_id=session_id)
        return ended

    async def revoke_all(self, user_id: str, *, but: str | None = None, origin: Origin | None = None) -> int:
        """End every session of the account, those that begin meanwhile too, and say how many; `but` is one to leave."""
        ended = 0
        while others := [one for one in await self._store.sessions(user_id) if one.session_id != but]:
            for session in others:
                ended += await self.revoke(user_id, session.session_id, origin=origin)
        return ended

    async def revoke_token(self, token: str, *, client_id: str = FIRST_PARTY, origin: Origin | None = None) -> None:
        """End the session of a refresh or access token (RFC 7009); one that does not hold is no error."""
        refresh = refresh_tokens.read(token, self._refresh_key)
        if refresh is not None:
            session = await self._store.session(refresh.user_id, refresh.session_id)
            if session is not None and session.client_id == client_id:
                await self.revoke(refresh.user_id, refresh.session_id, origin=origin)
            return
        try:
            principal = await self._verify(token)
        except AccessTokenInvalid:
            return
        if principal.client_id == client_id:
            await self.revoke(principal.user_id, principal.session_id, origin=origin)

    async def of(self, user_id: str) -> list[Session]:
        now_ms = self._now_ms()
        # The database's own sweep of what has expired comes within a minute, not at once.
        return [session for session in await self._store.sessions(user_id) if session.expires_at_ms > now_ms]

    async def one(self, user_id: str, session_id: str) -> Session | None:
        session = await self._store.session(user_id, session_id)
        return session if session is not None and session.expires_at_ms > self._now_ms() else None

    async def authenticate(
        self, authorization: str | None, asked: Asked | None = None, *, anew: bool = False
    ) -> Principal:
        """Tell who calls, from the Authorization header and, for a token that is bound to a key, the proof in `asked`.

        `anew`: ask the database, whatever is remembered. Raises NotAuthenticated if no token came, it does not hold, or its
        session has ended; AccountDeleted instead of the latter two, however old the token is, if that is why; DpopProofInvalid;
        StoreUnavailable.
        """
        scheme, token = _credentials(authorization)
        principal = await self.principal_of(token, anew=anew)
        if principal.key_thumbprint is None:
            if scheme == SCHEME:
                raise NotAuthenticated("The access token is bound to no key; send it as Authorization: Bearer.")
            return principal
        if scheme != SCHEME or self._possession is None:
            raise NotAuthenticated("The access token is bound to a key; send it as Authorization: DPoP, with a proof.")
        if asked is None:
            raise DpopProofInvalid("There has to be one DPoP header.")
        if await self._possession.of_request(asked, token) != principal.key_thumbprint:
            raise DpopProofInvalid("The access token is bound to another key.")
        return principal

    async def principal_of(self, token: str, *, anew: bool = False) -> Principal:
        """Tell what an access token says, whoever brings it: a caller has to prove its key as well.

        Raises as `authenticate`, but for DpopProofInvalid.
        """
        principal = self._verified.get(token)
        if principal is None or await self._keys.verifying() is not self._verified_with:
            try:
                principal = await self._verify(token)
            except AccessTokenExpired as expired:
                raise await self.refusal(expired.user_id, str(expired)) from None
            except AccessTokenInvalid as error:
                raise NotAuthenticated(str(error)) from None
            self._verified.put(token, principal)
        if not await (self.goes_on(principal) if anew else self.holds(principal)):
            raise await self.refusal(principal.user_id, "The session has ended, or its access token has.")
        return principal

    async def refusal(self, user_id: str, detail: str) -> NotAuthenticated | AccountDeleted:
        """Return what to tell the holder of a token of this account that does not hold."""
        return AccountDeleted(user_id) if await self._store.is_erased(user_id) else NotAuthenticated(detail)

    def require_recent_login(self, principal: Principal) -> None:
        """Raises ReauthenticationRequired if the session's login, whatever was refreshed since, is too long ago."""
        if self._now_ms() // 1000 - principal.authenticated_at_s >= RECENT_LOGIN_S:
            raise ReauthenticationRequired(max_age_s=RECENT_LOGIN_S)

    def forget(self, user_id: str, session_id: str | None = None) -> None:
        """Read the session, or all of the account's, anew before one of its tokens holds again in this process."""
        self._forgotten += 1
        if session_id is None:
            self._checked.forget_all(lambda key: key[0] == user_id)
        else:
            self._checked.forget((user_id, session_id))

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
        forgotten = self._forgotten
        session = await self._store.session(*key)
        # The account too: an erasure that was cut off may have left its sessions, and what was granted may be withdrawn.
        if session is None or session.expires_at_ms <= now_ms or not await self._stands(principal):
            self._checked.forget(key)
            return False
        if session.seen_generation < principal.generation:
            await self._store.see_generation(*key, principal.generation)
        if forgotten == self._forgotten:
            self._checked.put(key, _Checked(now_ms, max(session.seen_generation, principal.generation)))
        return True

    async def goes_on(self, principal: Principal) -> bool:
        """As `holds`, and as of now. Raises StoreUnavailable."""
        self._checked.forget((principal.user_id, principal.session_id))
        return await self.holds(principal)

    async def published_keys(self) -> tuple[PublicJWK, ...]:
        """Return every key that a valid token may be signed with, the next one included."""
        return await self._keys.published()

    async def _stands(self, principal: Principal) -> bool:
        standing = await self._store.standing(principal.user_id)
        claimed = (
            principal.scopes & frozenset(scopes_of.SERVICE_SCOPES)
            if principal.client_id == FIRST_PARTY
            else frozenset()
        )
        return not standing.is_erased and claimed <= frozenset(standing.granted_scopes)

    async def _verify(self, token: str) -> Principal:
        """Raises AccessTokenInvalid."""
        now_s = self._now_ms() // 1000
        keys = await self._keys.verifying()
        if keys is not self._verified_with:
            # A key came or went, and what it had signed with it.
            self._verified.forget_all()
            self._verified_with = keys
        try:
            return access_tokens.verify(token, keys, now_s, issuer=self._issuer, audience=self._issuer)
        except SigningKeyUnknown:
            keys = await self._keys.verifying_unknown()
            return access_tokens.verify(token, keys, now_s, issuer=self._issuer, audience=self._issuer)

    async def _pair(self, session: Session, scopes: tuple[str, ...]) -> TokenPair:
        access_token = access_tokens.mint(
            await self._keys.current(),
            issuer=self._issuer,
            audience=self._issuer,
            user_id=session.user_id,
            session_id=session.session_id,
            client_id=session.client_id,
            scopes=scopes,
            generation=session.counter,
            authenticated_at_s=session.authenticated_at_ms // 1000,
            methods=session.methods,
            key_thumbprint=session.key_thumbprint,
            now_s=self._now_ms() // 1000,
            token_id=str(uuid4()),
        )
        return TokenPair(
            access_token=access_token,
            token_type="Bearer" if session.key_thumbprint is None else SCHEME,
            expires_in=access_tokens.LIFETIME_S,
            refresh_token=refresh_tokens.mint(session, self._refresh_key),
            scope=" ".join(scopes),
        )


def _allowed(session: Session, standing: Standing) -> tuple[str, ...]:
    """The session's scopes, and in our own apps what the account was granted; but not on a device that may not even manage it."""
    is_ours = session.client_id == FIRST_PARTY and "account" in session.scopes
    return session.scopes + (standing.granted_scopes if is_ours else ())


def _require_key(session: Session, key_thumbprint: str | None) -> None:
    """A session that is bound to a key is refreshed with it only, and a thief without it does not end the session."""
    if session.key_thumbprint is None or session.key_thumbprint == key_thumbprint:
        return
    if key_thumbprint is None:
        raise DpopProofInvalid("The refresh token is bound to a key; there has to be one DPoP header.")
    raise GrantInvalid("The refresh token is bound to another key.")


def _credentials(authorization: str | None) -> tuple[str, str]:
    """The scheme and the token. RFC 6750 section 2.1, RFC 9449 section 7.1; schemes have no case (RFC 9110 section 11.1)."""
    if not authorization:
        raise NotAuthenticated("This needs an access token.", error=None)
    scheme, _, token = authorization.strip().partition(" ")
    token = token.strip()
    known = {"bearer": "Bearer", "dpop": SCHEME}.get(scheme.lower())
    if known is None or not token:
        raise NotAuthenticated("This needs an access token, as Authorization: Bearer.", error=None)
    return known, token
