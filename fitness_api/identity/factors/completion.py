"""Completing a login by a second factor, or making one by a passkey alone."""

from collections.abc import Callable
from typing import Final, NamedTuple

from msgspec import Struct

from fitness_api.identity import single_use
from fitness_api.identity.audit import Origin
from fitness_api.identity.audit_log import AuditLog
from fitness_api.identity.errors import GrantInvalid, PasskeyRefused, SecondFactorRefused
from fitness_api.identity.factors.passkeys import Assertion, RequestOptions
from fitness_api.identity.factors.proofs import Proofs
from fitness_api.identity.factors.second_factors import FREE_GUESSES, MAX_GUESSES
from fitness_api.identity.key_ring import wall_clock_ms
from fitness_api.identity.logins import MULTIPLE, PENDING_KIND, Logins, Pending
from fitness_api.identity.scopes import FIRST_PARTY
from fitness_api.identity.sessions import TokenPair
from fitness_api.identity.single_use import SingleUse

MAX_MISSES: Final = 5  # of one login: whoever mistypes more begins again, and shows the first factor once more

# The owner is told when the waits begin, and when codes are looked at no more: not of every slip, and not five times an hour.
TOLD_AT: Final = frozenset({FREE_GUESSES, MAX_GUESSES})


class TotpCode(Struct, frozen=True):
    code: str


class RecoveryCode(Struct, frozen=True):
    code: str


Shown = TotpCode | RecoveryCode | Assertion


class Completed(NamedTuple):
    user_id: str
    pair: TokenPair


class Completion:
    def __init__(
        self,
        logins: Logins,
        proofs: Proofs,
        artefacts: SingleUse,
        audit: AuditLog,
        *,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._logins = logins
        self._proofs = proofs
        self._artefacts = artefacts
        self._audit = audit
        self._now_ms = now_ms

    async def ways(self, mfa_token: str) -> tuple[str, ...]:
        """Return how this login may be completed. Raises GrantInvalid."""
        return await self._proofs.ways((await self._logins.pending(mfa_token)).user_id)

    async def passkey_options(self, mfa_token: str) -> RequestOptions:
        """Return what to ask the account's passkeys. Raises GrantInvalid, or NoSecondFactor where it has none."""
        return await self._proofs.passkey_options((await self._logins.pending(mfa_token)).user_id)

    async def complete(
        self,
        mfa_token: str,
        shown: Shown,
        *,
        client_id: str = FIRST_PARTY,
        origin: Origin,
        key_thumbprint: str | None = None,
    ) -> Completed:
        """Begin the session that the token stands for. MAX_MISSES that do not hold end it.

        Raises SecondFactorRefused, PasskeyRefused, TooManyGuesses; GrantInvalid if the token does not hold (any more), or not for
        this client and the key of this thumbprint.
        """
        pending = await self._logins.pending(mfa_token)
        if (pending.client_id, pending.key_thumbprint) != (client_id, key_thumbprint):
            raise GrantInvalid("The login was begun by another client, or with another key.")
        try:
            method = await self._prove(pending, shown)
        except (SecondFactorRefused, PasskeyRefused) as refused:
            await self._miss(pending, mfa_token, shown, origin)
            if isinstance(refused, SecondFactorRefused) and refused.in_a_row in TOLD_AT:
                await self._audit.record(pending.user_id, "mfa_guessed", origin=origin)
            raise
        if isinstance(shown, RecoveryCode):
            await self._audit.record(pending.user_id, "recovery_code_used", origin=origin)
        return Completed(pending.user_id, await self._logins.complete(mfa_token, method, origin=origin))

    async def passkey_login(
        self,
        assertion: Assertion,
        *,
        client_id: str = FIRST_PARTY,
        origin: Origin,
        key_thumbprint: str | None = None,
    ) -> Completed:
        """Begin a session of whose passkey this is. Raises PasskeyRefused."""
        proved = await self._proofs.login(assertion)
        pair = await self._logins.admit(
            proved.user_id,
            methods=(*proved.methods, MULTIPLE),
            client_id=client_id,
            origin=origin,
            key_thumbprint=key_thumbprint,
        )
        return Completed(proved.user_id, pair)

    async def _prove(self, pending: Pending, shown: Shown) -> str:
        match shown:
            case TotpCode(code):
                return await self._proofs.totp(pending.user_id, code)
            case RecoveryCode(code):
                return await self._proofs.recovery_code(pending.user_id, code)
            case Assertion():
                return await self._proofs.passkey(pending.user_id, shown)

    async def _miss(self, pending: Pending, mfa_token: str, shown: Shown, origin: Origin) -> None:
        digest = single_use.digest_of(mfa_token)
        if await self._artefacts.miss(PENDING_KIND, digest) >= MAX_MISSES:
            await self._artefacts.use(PENDING_KIND, digest, now_ms=self._now_ms())
        way = {TotpCode: "totp", RecoveryCode: "recovery_code", Assertion: "passkey"}[type(shown)]
        await self._audit.record(pending.user_id, "mfa_failed", origin=origin, details={"way": way})
