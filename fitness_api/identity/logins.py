"""Registering and logging in: every way into an account of our own apps ends at `Logins.admit`."""

import unicodedata
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from typing import Final
from uuid import uuid4

from msgspec import Struct, json

from fitness_api.errors import InvalidBody
from fitness_api.identity import accounts, single_use
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.accounts import Account
from fitness_api.identity.audit import Origin
from fitness_api.identity.audit_log import AuditLog
from fitness_api.identity.errors import (
    EmailTaken,
    GrantInvalid,
    InvalidCredentials,
    MfaRequired,
    ReauthenticationRequired,
)
from fitness_api.identity.key_ring import wall_clock_ms
from fitness_api.identity.passwords import Passwords
from fitness_api.identity.scopes import FIRST_PARTY, PAGES, USER_SCOPES
from fitness_api.identity.sessions import RECENT_LOGIN_S, Sessions, TokenPair
from fitness_api.identity.single_use import Artefact, SingleUse
from fitness_api.identity.store import Store
from fitness_api.identity.weak_passwords import require_strong

# RFC 8176: a password, and more than one factor.
PASSWORD: Final = "pwd"  # noqa: S105
MULTIPLE: Final = "mfa"

PENDING_MS: Final = 300_000  # a code is looked up or a key is found in less; the protocol's number
PENDING_KIND: Final = "mfa"
PAGES_MS: Final = 600_000  # time to read what is asked and to type a code; then a browser that was left is nobody's

# Which second factors an account has: "totp", "passkey", …; none: it has no such thing.
SecondFactors = Callable[[str], Awaitable[tuple[str, ...]]]


async def no_second_factors(_: str) -> tuple[str, ...]:
    return ()


class Pending(Struct, frozen=True, kw_only=True):
    """A login whose first factor held, by `methods`."""

    user_id: str
    methods: tuple[str, ...]
    client_id: str
    key_thumbprint: str | None
    is_known_device: bool = False


class Logins:
    def __init__(
        self,
        store: Store,
        passwords: Passwords,
        sessions: Sessions,
        artefacts: SingleUse,
        audit: AuditLog,
        *,
        second_factors: SecondFactors,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._sessions = sessions
        self._artefacts = artefacts
        self._audit = audit
        self._second_factors = second_factors
        self._now_ms = now_ms

    async def register(
        self,
        *,
        email: str,
        password: str,
        display_name: str | None = None,
        origin: Origin,
        key_thumbprint: str | None = None,
    ) -> TokenPair:
        """Raises InvalidBody, WeakPassword, EmailTaken, or PasswordHashersBusy."""
        now_ms = self._now_ms()
        address = accounts.normalised_address(email)
        password = accounts.normalised_password(password)
        account = Account(user_id=str(uuid4()), email=accounts.tidy(email), created_at_ms=now_ms)
        if display_name is not None:
            account = accounts.changed(account, {"display_name": display_name}, today=_today(now_ms))
        require_strong(password, email=account.email, display_name=account.display_name)
        if await self._store.credentials(address) is not None:
            raise EmailTaken  # before a hash is spent on it; the claim below is what decides
        password_hash = await self._passwords.hash(password)
        await self._store.add_account(account, address=address, password_hash=password_hash)
        await self._audit.record(account.user_id, "registered", origin=origin)
        return await self.admit(account.user_id, methods=(PASSWORD,), origin=origin, key_thumbprint=key_thumbprint)

    def admitted(self, *, is_known_device: bool) -> AbstractContextManager[None]:
        """Hold a place for a try at a password, from before anything is read for it. Raises PasswordHashersBusy."""
        return self._passwords.admitted(is_known_device=is_known_device)

    async def login(
        self,
        *,
        email: str,
        password: str,
        client_id: str = FIRST_PARTY,
        origin: Origin,
        is_known_device: bool = False,
        key_thumbprint: str | None = None,
    ) -> TokenPair:
        """Raises InvalidCredentials, alike in time whether or not the address is known, MfaRequired, or PasswordHashersBusy."""
        password = unicodedata.normalize("NFC", password)
        try:
            address = accounts.normalised_address(email)
        except InvalidBody:
            address = ""  # nobody's, and read like any other
        known = await self._store.credentials(address)
        password_hash = None if known is None else known.password_hash
        holds = await self._passwords.verify(password_hash, password, is_known_device=is_known_device)
        if not holds or known is None or password_hash is None:
            if known is not None:
                self._audit.note(known.user_id, "login_failed", origin=origin)
            raise InvalidCredentials
        checked = {password_hash}
        if self._passwords.is_outdated(password_hash):
            renewed = await self._passwords.hash(password, is_known_device=is_known_device)
            await self._store.replace_password_hash(known.user_id, before=password_hash, after=renewed)
            checked.add(renewed)
        try:
            pair = await self.admit(
                known.user_id,
                methods=(PASSWORD,),
                client_id=client_id,
                origin=origin,
                key_thumbprint=key_thumbprint,
                is_known_device=is_known_device,
            )
        except MfaRequired as half:
            if not await self._is_still(address, checked):
                digest = single_use.digest_of(half.mfa_token)
                await self._artefacts.use(PENDING_KIND, digest, now_ms=self._now_ms())
                raise InvalidCredentials from None
            raise
        if not await self._is_still(address, checked):
            await self._sessions.revoke_token(pair.access_token, client_id=client_id)
            raise InvalidCredentials
        return pair

    async def admit(
        self,
        user_id: str,
        *,
        methods: tuple[str, ...],
        client_id: str = FIRST_PARTY,
        origin: Origin,
        key_thumbprint: str | None = None,
        is_known_device: bool = False,
    ) -> TokenPair:
        """Begin a session of who has proved by `methods` who they are: on the pages one that allows nothing and ends soon.

        is_known_device: it showed that it logged in to this account before, so that its owner is not written of it.

        Raises MfaRequired if the account has a second factor and none was shown, or InvalidCredentials if it was erased.
        """
        if MULTIPLE not in methods and (ways := await self._second_factors(user_id)):
            pending = Pending(
                user_id=user_id,
                methods=methods,
                client_id=client_id,
                key_thumbprint=key_thumbprint,
                is_known_device=is_known_device,
            )
            raise MfaRequired(mfa_token=await self._put_off(pending), ways=ways)
        pair = await self._sessions.begin(
            user_id,
            client_id=client_id,
            scopes=() if client_id == PAGES else USER_SCOPES,
            lifetime_ms=PAGES_MS if client_id == PAGES else None,
            methods=methods,
            user_agent=origin.user_agent,
            key_thumbprint=key_thumbprint,
        )
        known = {"known_device": "yes"} if is_known_device else {}
        await self._audit.record(user_id, "logged_in", origin=origin, details={"methods": " ".join(methods), **known})
        return pair

    async def pending(self, mfa_token: str) -> Pending:
        """Return the login that the token completes. Raises GrantInvalid."""
        found = await self._artefacts.read(PENDING_KIND, single_use.digest_of(mfa_token), now_ms=self._now_ms())
        if found is None:
            raise GrantInvalid("The login was completed, ended or took too long; log in again.")
        return json.decode(found.content, type=Pending)

    async def complete(self, mfa_token: str, method: str, *, origin: Origin) -> TokenPair:
        """Begin the session, after `method` has held as well; the token is spent. Raises GrantInvalid."""
        used = await self._artefacts.use(PENDING_KIND, single_use.digest_of(mfa_token), now_ms=self._now_ms())
        if not isinstance(used, Artefact):
            raise GrantInvalid("The login was completed, ended or took too long; log in again.")
        pending = json.decode(used.content, type=Pending)
        return await self.admit(
            pending.user_id,
            methods=(*pending.methods, method, MULTIPLE),
            client_id=pending.client_id,
            origin=origin,
            key_thumbprint=pending.key_thumbprint,
            is_known_device=pending.is_known_device,
        )

    async def require_second_factor(self, principal: Principal) -> None:
        """Raises ReauthenticationRequired if the account has a second factor and this login did not show one."""
        if MULTIPLE not in principal.methods and await self._second_factors(principal.user_id):
            raise ReauthenticationRequired(max_age_s=RECENT_LOGIN_S, second_factor=True)

    async def _is_still(self, address: str, checked: Collection[str]) -> bool:
        """A new password ends what an older one began, and this may have begun while it did so."""
        known = await self._store.credentials(address)
        return known is not None and known.password_hash in checked

    async def _put_off(self, pending: Pending) -> str:
        token = single_use.secret()
        await self._artefacts.add(
            Artefact(
                kind=PENDING_KIND,
                digest=single_use.digest_of(token),
                user_id=pending.user_id,
                content=json.encode(pending),
                expires_at_ms=self._now_ms() + PENDING_MS,
            )
        )
        return token


def _today(now_ms: int) -> date:
    return datetime.fromtimestamp(now_ms / 1000, UTC).date()
