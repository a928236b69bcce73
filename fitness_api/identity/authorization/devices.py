"""Logging a device in that has no keyboard: it shows a code, a person allows it elsewhere, it asks until then."""

import hmac
import secrets
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from fitness_api.errors import NotFound
from fitness_api.identity import single_use
from fitness_api.identity.access_tokens import LIFETIME_S
from fitness_api.identity.audit import Origin
from fitness_api.identity.audit_log import AuditLog
from fitness_api.identity.authorization import device_grants
from fitness_api.identity.authorization.clients import REFRESH_TOKEN, Client
from fitness_api.identity.authorization.device_grants import Approval, DeviceGrant
from fitness_api.identity.authorization.device_store import DeviceStore
from fitness_api.identity.errors import GrantInvalid, InvalidCredentials, OAuthRefused, ScopeExceeded, StoreUnavailable
from fitness_api.identity.key_ring import wall_clock_ms
from fitness_api.identity.scopes import USER_SCOPES
from fitness_api.identity.sessions import Sessions, TokenPair
from fitness_api.identity.store import Store

# A device is held by whoever is near: it gets nothing by which the account itself is changed; the protocol's rule.
WITHHELD: Final = frozenset({"account"})

# With a million codes waiting, four in a row are taken once in 10^17 times.
_DRAWS: Final = 4
# Two polls at the same time are told apart at the second look; more take turns.
_LOOKS: Final = 64

_UNKNOWN: Final = "This is not a device code, or no more."
_SAID: Final = {
    "authorization_pending": "The user has not decided yet.",
    "slow_down": "Wait 5 seconds longer between polls, from now on.",
    "access_denied": "The user did not allow it.",
    "expired_token": "The code has expired; begin again.",
    "invalid_grant": "The code was redeemed before.",
}


class Begun(Struct, frozen=True, kw_only=True):
    device_code: str
    user_code: str
    expires_in_s: int
    interval_s: int


class Devices:
    def __init__(
        self,
        grants: DeviceStore,
        sessions: Sessions,
        store: Store,
        audit: AuditLog,
        *,
        master_key: bytes,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._grants = grants
        self._sessions = sessions
        self._store = store
        self._audit = audit
        self._key = device_grants.derive_key(master_key)
        self._now_ms = now_ms

    async def begin(self, client: Client, scopes: frozenset[str] | None, *, origin: Origin) -> Begun:
        """`scopes`: None for all that the client may have. Raises ScopeExceeded."""
        allowed = tuple(scope for scope in client.scopes if scope in USER_SCOPES and scope not in WITHHELD)
        if scopes is not None and not scopes <= frozenset(allowed):
            raise ScopeExceeded(scopes - frozenset(allowed))
        granted = allowed if scopes is None else tuple(scope for scope in allowed if scope in scopes)
        if not granted:
            raise ScopeExceeded(frozenset(client.scopes))
        now_ms = self._now_ms()
        for _ in range(_DRAWS):
            user_code, secret = device_grants.drawn(secrets.randbelow), single_use.secret()
            grant = DeviceGrant(
                name=device_grants.name_of(user_code, self._key),
                secret_digest=single_use.digest_of(secret),
                client_id=client.client_id,
                scopes=granted,
                place=device_grants.place_of(origin.address),
                user_agent=origin.user_agent[: device_grants.MAX_USER_AGENT],
                created_at_ms=now_ms,
                expires_at_ms=now_ms + device_grants.LIFETIME_MS,
            )
            if await self._grants.add(grant):
                return Begun(
                    device_code=device_grants.device_code(grant.name, secret),
                    user_code=device_grants.shown(user_code),
                    expires_in_s=device_grants.LIFETIME_MS // 1_000,
                    interval_s=grant.interval_s,
                )
        raise StoreUnavailable("Too many devices are being logged in at the moment.")

    async def waiting(self, typed: str) -> DeviceGrant:
        """Return the grant whose code was typed. Raises NotFound if none waits by it."""
        user_code = device_grants.read(typed)
        grant = None if user_code is None else await self._grants.grant(device_grants.name_of(user_code, self._key))
        if grant is None or grant.state != "pending" or self._now_ms() >= grant.expires_at_ms:
            raise NotFound("code; it may have expired")
        return grant

    async def decide(self, typed: str, approval: Approval, *, approve: bool, client_name: str, origin: Origin) -> None:
        """Raises NotFound if no grant waits by the code that was typed, whoever decided it before."""
        grant = await self.waiting(typed)
        if approve:
            await self._audit.record(
                approval.user_id,
                "device_authorized",
                origin=origin,
                session_id=approval.session_id,
                details={"client": client_name, "scope": " ".join(grant.scopes), "place": grant.place},
            )
        if not await self._grants.decide(grant.name, approval if approve else None, now_ms=self._now_ms()):
            raise NotFound("code; it may have expired")

    async def redeem(self, code: str, client: Client, *, origin: Origin, key_thumbprint: str | None) -> TokenPair:
        """Raises OAuthRefused with what RFC 8628 section 3.5 has for it, or GrantInvalid."""
        opened = device_grants.opened(code)
        if opened is None:
            raise GrantInvalid(_UNKNOWN)
        name, secret_digest = opened
        for _ in range(_LOOKS):
            grant = await self._grants.grant(name)
            if grant is None or not hmac.compare_digest(grant.secret_digest, secret_digest):
                raise GrantInvalid(_UNKNOWN)
            if grant.client_id != client.client_id:
                raise GrantInvalid("The device code was given to another client.")
            answer = device_grants.poll(grant, self._now_ms())
            if answer.error == "expired_token":
                raise OAuthRefused(answer.error, _SAID[answer.error])
            if not await self._grants.polled(answer.after):
                continue
            if answer.error is not None:
                raise OAuthRefused(answer.error, _SAID[answer.error])
            assert grant.approval is not None, "it was approved by somebody"
            return await self._begun(grant, grant.approval, client, origin, key_thumbprint)
        raise OAuthRefused("slow_down", _SAID["slow_down"])

    async def _begun(
        self, grant: DeviceGrant, approval: Approval, client: Client, origin: Origin, key_thumbprint: str | None
    ) -> TokenPair:
        # Whatever ended the login that allowed it (a reset, an erasure, the user) ends this too.
        if await self._store.session(approval.user_id, approval.session_id) is None:
            raise GrantInvalid("The login that allowed it has ended.")
        try:
            return await self._sessions.begin(
                approval.user_id,
                client_id=client.client_id,
                scopes=grant.scopes,
                methods=approval.methods,
                user_agent=origin.user_agent,
                key_thumbprint=key_thumbprint,
                authenticated_at_ms=approval.authenticated_at_ms,
                lifetime_ms=None if REFRESH_TOKEN in client.grant_types else LIFETIME_S * 1_000,
            )
        except InvalidCredentials as error:
            raise GrantInvalid("The account is no more.") from error
