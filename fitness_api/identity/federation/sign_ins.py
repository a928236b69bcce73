"""Signing in with another issuer's identity, and linking identities to an account."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date
from typing import Final
from uuid import uuid4

from fitness_api.errors import InvalidBody, NotAuthenticated
from fitness_api.identity import accounts, single_use
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.accounts import Account
from fitness_api.identity.audit import Origin
from fitness_api.identity.audit_log import AuditLog
from fitness_api.identity.errors import (
    EmailUnverified,
    GrantInvalid,
    IdentityTaken,
    IdTokenInvalid,
    InvalidCredentials,
    LastWayIn,
    LinkRequired,
    StoreUnavailable,
)
from fitness_api.identity.federation import id_tokens
from fitness_api.identity.federation.id_tokens import Claims
from fitness_api.identity.federation.identities import (
    Holder,
    Identity,
    Join,
    LogIn,
    Make,
    Refuse,
    TakeOver,
    decide,
    vouched_address,
)
from fitness_api.identity.federation.issuers import Issuer
from fitness_api.identity.federation.providers import Provider
from fitness_api.identity.federation.store import IdentityStore
from fitness_api.identity.key_ring import wall_clock_ms
from fitness_api.identity.logins import Logins
from fitness_api.identity.scopes import FIRST_PARTY
from fitness_api.identity.sessions import Sessions, TokenPair
from fitness_api.identity.single_use import Artefact, SingleUse

# Not registered by RFC 8176, and what others write (Microsoft's `fed`): somebody else looked at the person.
FEDERATED: Final = "fed"

NONCE_KIND: Final = "oidc_nonce"
NONCE_MS: Final = 300_000  # from the button to the provider's answer; the protocol's number
_HEX_DIGEST: Final = 64

# Each round means that somebody else changed the account, or claimed the identity, since it was read.
MAX_ROUNDS: Final = 8

End = Callable[[str], Awaitable[object]]
"""Ends one kind of what was begun under an account: called with its user id, perhaps more than once."""


class SignIns:
    """issuers: by the provider's name. ends: what a takeover ends, but for password and identities, which it ends itself.

    has_passkey: whether the account can be logged in to by one.
    """

    def __init__(
        self,
        issuers: Mapping[str, Issuer],
        store: IdentityStore,
        logins: Logins,
        sessions: Sessions,
        artefacts: SingleUse,
        audit: AuditLog,
        *,
        ends: Sequence[End],
        has_passkey: Callable[[str], Awaitable[bool]],
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._issuers = issuers
        self._store = store
        self._logins = logins
        self._sessions = sessions
        self._artefacts = artefacts
        self._audit = audit
        self._ends = ends
        self._has_passkey = has_passkey
        self._now_ms = now_ms

    async def nonce(self) -> str:
        """Return what an ID token's `nonce` has to be, in the clear or as its SHA-256 in hex."""
        nonce = single_use.secret()
        await self._artefacts.add(
            Artefact(
                kind=NONCE_KIND,
                digest=single_use.digest_of(nonce),
                expires_at_ms=self._now_ms() + NONCE_MS,
            )
        )
        return nonce

    async def exchange(self, id_token: str, *, origin: Origin, key_thumbprint: str | None = None) -> TokenPair:
        """Log in by an ID token that was made for one of our nonces.

        Raises IdTokenInvalid, IssuerUnavailable, LinkRequired, MfaRequired.
        """
        provider, claims = await self._redeemed(id_token)
        user_id = await self.settle(claims, provider, origin=origin)
        return await self.admit(user_id, origin=origin, key_thumbprint=key_thumbprint)

    async def admit(
        self, user_id: str, *, client_id: str = FIRST_PARTY, origin: Origin, key_thumbprint: str | None = None
    ) -> TokenPair:
        """Begin the session of who has signed in. Raises MfaRequired, or IdTokenInvalid if the account was erased meanwhile."""
        try:
            return await self._logins.admit(
                user_id, methods=(FEDERATED,), client_id=client_id, origin=origin, key_thumbprint=key_thumbprint
            )
        except (InvalidCredentials, GrantInvalid) as error:
            raise IdTokenInvalid("The account is no more.") from error

    async def settle(self, claims: Claims, provider: Provider, *, name: str | None = None, origin: Origin) -> str:
        """Return whose account the identity opens, which may be a new one. The token behind it was checked, its nonce too.

        `name`: what the provider told beside the token. Raises LinkRequired.
        """
        address = vouched_address(claims, provider)
        identity = self._identity(claims)
        for _ in range(MAX_ROUNDS):
            owner = await self._store.owner(identity.key)
            holder = None if address is None else await self._store.holder_of(address)
            match decide(claims, provider, owner=owner, holder=holder):
                case LogIn(user_id):
                    return user_id
                case Make(free):
                    account = self._account(claims, name)
                    if await self._store.make(account, address=free, identity=identity):
                        await self._audit.record(account.user_id, "registered", origin=origin, details=_told(provider))
                        return account.user_id
                case Join(user_id):
                    if await self._store.link(user_id, identity):
                        await self._audit.record(user_id, "identity_linked", origin=origin, details=_told(provider))
                        return user_id
                case TakeOver(user_id):
                    assert holder is not None, "what is taken over was read"
                    if await self._take_over(holder, identity):
                        await self._audit.record(user_id, "account_taken_over", origin=origin, details=_told(provider))
                        return user_id
                case Refuse():
                    raise LinkRequired
        raise StoreUnavailable("The account is being changed elsewhere.")

    async def of(self, user_id: str) -> tuple[Identity, ...]:
        holder = await self._store.holder(user_id)
        return () if holder is None else holder.identities

    async def link(self, caller: Principal, id_token: str, *, origin: Origin) -> tuple[Identity, bool]:
        """Make the token's identity the account's; return it, and whether it was not before.

        An account whose address was never verified may be anybody's: an identity that is linked to it would stay when its
        address's owner comes ("trojan identifier"). Raises EmailUnverified, IdTokenInvalid, IssuerUnavailable, IdentityTaken,
        TooManyIdentities, NotAuthenticated.
        """
        user_id, session_id = caller.user_id, caller.session_id
        holder = await self._store.holder(user_id)
        if holder is None or not holder.email_verified:
            raise EmailUnverified
        provider, claims = await self._redeemed(id_token)
        identity = self._identity(claims)
        if not await self._store.link(user_id, identity):
            raise IdentityTaken
        # What ended the session while this was under way, a takeover perhaps, was to end what it does as well.
        if not await self._sessions.goes_on(caller):
            await self._undo(user_id, identity)
            raise NotAuthenticated("The session has ended.")
        known = [linked for linked in holder.identities if linked.key == identity.key]
        if not known:
            details = _told(provider)
            await self._audit.record(user_id, "identity_linked", origin=origin, session_id=session_id, details=details)
        return (known or [identity])[0], not known

    async def unlink(self, user_id: str, identity_id: str, *, origin: Origin, session_id: str) -> bool:
        """False: the account has no such identity. Raises LastWayIn."""
        for _ in range(MAX_ROUNDS):
            holder = await self._store.holder(user_id)
            leaving = [one for one in holder.identities if one.identity_id == identity_id] if holder else []
            if holder is None or not leaving:
                return False
            is_last = not holder.has_password and len(holder.identities) == 1
            if is_last and not await self._has_passkey(user_id):
                raise LastWayIn
            if await self._store.unlink(holder, identity_id):
                details = {"issuer": leaving[0].issuer}
                await self._audit.record(
                    user_id, "identity_unlinked", origin=origin, session_id=session_id, details=details
                )
                return True
        raise StoreUnavailable("The account is being changed elsewhere.")

    async def _redeemed(self, id_token: str) -> tuple[Provider, Claims]:
        """Check the token, then spend its nonce: a token that does not hold spends none."""
        said = id_tokens.read(id_token).issuer
        issuer = next((one for one in self._issuers.values() if one.provider.is_issuer(said)), None)
        if issuer is None:
            raise IdTokenInvalid("The ID token's issuer is not one of ours.")
        claims = await issuer.verify(id_token)
        used = await self._artefacts.use(NONCE_KIND, _nonce_digest(claims.nonce), now_ms=self._now_ms())
        if not isinstance(used, Artefact):
            raise IdTokenInvalid("The ID token's nonce is not ours, took too long, or was used before.")
        return issuer.provider, claims

    async def _undo(self, user_id: str, identity: Identity) -> None:
        for _ in range(MAX_ROUNDS):
            holder = await self._store.holder(user_id)
            if holder is None or await self._store.unlink(holder, identity.identity_id):
                return
        raise StoreUnavailable("The account is being changed elsewhere.")

    async def _take_over(self, holder: Holder, identity: Identity) -> bool:
        """Its ways in go first, then what was begun by them, and again after it is verified: what slipped in between."""
        voided = await self._store.void(holder)
        if voided is None:
            return False
        for end in self._ends:
            await end(holder.user_id)
        if not await self._store.give(voided, identity):
            return False
        for end in self._ends:
            await end(holder.user_id)
        return True

    def _identity(self, claims: Claims) -> Identity:
        return Identity(
            identity_id=str(uuid4()),
            issuer=claims.issuer,
            subject=claims.subject,
            email=None if claims.email is None else claims.email[: accounts.MAX_EMAIL],
            linked_at_ms=self._now_ms(),
        )

    def _account(self, claims: Claims, name: str | None) -> Account:
        assert claims.email is not None, "its address was vouched for"
        now_ms = self._now_ms()
        account = Account(
            user_id=str(uuid4()), email=accounts.tidy(claims.email), email_verified=True, created_at_ms=now_ms
        )
        try:
            return accounts.changed(account, {"display_name": name or claims.name}, today=date.min)
        except InvalidBody:
            return account


def _nonce_digest(claim: str) -> bytes:
    """A nonce of ours has 43 characters; what has 64 hexadecimal ones is one's digest."""
    if len(claim) == _HEX_DIGEST:
        try:
            return bytes.fromhex(claim)
        except ValueError:
            pass
    return single_use.digest_of(claim)


def _told(provider: Provider) -> dict[str, str]:
    return {"issuer": provider.issuer}
