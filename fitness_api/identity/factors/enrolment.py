"""Adding and removing second factors and passkeys. Each change is on record, and ends what was under way to log in before it."""

import secrets
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple
from uuid import uuid4

from fitness_api.errors import Invalid, InvalidBody
from fitness_api.identity import accounts
from fitness_api.identity.accounts import Account
from fitness_api.identity.audit import Kind, Origin
from fitness_api.identity.audit_log import AuditLog
from fitness_api.identity.errors import PasskeyRefused
from fitness_api.identity.factors import passkeys, recovery_codes, second_factors, totp
from fitness_api.identity.factors.challenges import Challenges
from fitness_api.identity.factors.passkeys import MAX_NAME, CreationOptions, NewCredential, Party, Passkey
from fitness_api.identity.factors.second_factors import SecondFactors
from fitness_api.identity.factors.store import FactorStore
from fitness_api.identity.key_ring import wall_clock_ms
from fitness_api.identity.logins import PENDING_KIND
from fitness_api.identity.single_use import SingleUse

# What was begun when other factors held is begun anew.
CANCELLED: Final = (PENDING_KIND, "passkey_mfa", "passkey_new")
DEFAULT_NAME: Final = "Passkey"


class Caller(NamedTuple):
    """Who changes something, by which session, from where."""

    user_id: str
    session_id: str
    origin: Origin


class NewTotp(NamedTuple):
    secret: str
    uri: str


class AddedPasskey(NamedTuple):
    """recovery_codes: None where the account has some from before."""

    passkey: Passkey
    recovery_codes: tuple[str, ...] | None


class Enrolment:
    """has_other_way_in: whether an account can be logged in to without a passkey: by a password, or another provider's identity."""

    def __init__(
        self,
        store: FactorStore,
        artefacts: SingleUse,
        audit: AuditLog,
        party: Party,
        *,
        master_key: bytes,
        has_other_way_in: Callable[[str], Awaitable[bool]],
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._store = store
        self._artefacts = artefacts
        self._challenges = Challenges(artefacts, now_ms=now_ms)
        self._audit = audit
        self._party = party
        self._totp_key = totp.derive_key(master_key)
        self._recovery_key = recovery_codes.derive_key(master_key)
        self._has_other_way_in = has_other_way_in
        self._now_ms = now_ms

    async def held(self, user_id: str) -> SecondFactors:
        return await self._store.held(user_id)

    async def begin_totp(self, account: Account) -> NewTotp:
        """Return the secret for an authenticator app, this once. It does nothing before it is confirmed."""
        secret = secrets.token_bytes(totp.SECRET_BYTES)
        nonce = secrets.token_bytes(totp.NONCE_BYTES)
        sealed = totp.seal(secret, user_id=account.user_id, nonce=nonce, key=self._totp_key)
        now_ms = self._now_ms()
        await self._store.change(account.user_id, lambda held: (second_factors.begin_totp(held, sealed, now_ms), None))
        return NewTotp(totp.encoded(secret), totp.uri(secret, service=self._party.name, account=account.email))

    async def confirm_totp(self, caller: Caller, code: str) -> tuple[str, ...]:
        """Activate what was begun, and return ten new recovery codes. Raises InvalidBody if the code is wrong, TotpNotBegun."""
        codes, digests = self._draw_codes(caller.user_id)
        now_ms = self._now_ms()

        def decide(held: SecondFactors) -> tuple[SecondFactors, bool]:
            after = second_factors.confirm_totp(held, code, digests, key=self._totp_key, now_ms=now_ms)
            return (held, False) if after is None else (after, True)

        if not await self._store.change(caller.user_id, decide):
            raise InvalidBody(Invalid("/code", "This is not the app's code of now; is the device's clock right?"))
        await self._changed(caller, "totp_added")
        return codes

    async def remove_totp(self, caller: Caller) -> bool:
        """Remove the authenticator app, and one that waits to be confirmed. False: there was neither."""

        def decide(held: SecondFactors) -> tuple[SecondFactors, SecondFactors]:
            return (held if held.totp is None and held.begun is None else second_factors.remove_totp(held)), held

        before = await self._store.change(caller.user_id, decide)
        if before.totp is not None:
            await self._changed(caller, "totp_removed")
        return before.totp is not None or before.begun is not None

    async def renew_codes(self, caller: Caller) -> tuple[str, ...]:
        """Return ten new recovery codes; older ones hold no more. Raises NoSecondFactor."""
        codes, digests = self._draw_codes(caller.user_id)
        now_ms = self._now_ms()
        await self._store.change(caller.user_id, lambda held: (second_factors.renew_codes(held, digests, now_ms), None))
        await self._changed(caller, "recovery_codes_renewed")
        return codes

    async def passkey_options(self, account: Account) -> CreationOptions:
        held = await self._store.held(account.user_id)
        return passkeys.creation_options(
            self._party,
            challenge=await self._challenges.draw("passkey_new", account.user_id),
            user_id=account.user_id,
            email=account.email,
            display_name=account.display_name,
            known=held.passkeys,
        )

    async def add_passkey(self, caller: Caller, credential: NewCredential, *, name: str | None) -> AddedPasskey:
        """Raises InvalidBody if it is none or its name cannot be, TooManyPasskeys."""
        name = DEFAULT_NAME if name is None else _name(name)
        codes, digests = self._draw_codes(caller.user_id)
        try:
            challenge = await self._challenges.redeem(credential, "passkey_new", caller.user_id)
            passkey = passkeys.register(
                credential, self._party, challenge=challenge, passkey_id=str(uuid4()), name=name, now_ms=self._now_ms()
            )

            def decide(held: SecondFactors) -> tuple[SecondFactors, bool]:
                after = second_factors.add_passkey(held, passkey, digests)
                return after, after.recovery_digests == digests

            has_new_codes = await self._store.change(caller.user_id, decide)
        except PasskeyRefused as refused:
            raise InvalidBody(Invalid("/credential", str(refused))) from refused
        await self._changed(caller, "passkey_added", passkey=name)
        return AddedPasskey(passkey, codes if has_new_codes else None)

    async def rename_passkey(self, caller: Caller, passkey_id: str, name: str) -> Passkey | None:
        """None: the account has no such passkey. Raises InvalidBody."""
        name = _name(name)

        def decide(held: SecondFactors) -> tuple[SecondFactors, Passkey | None]:
            after = second_factors.rename_passkey(held, passkey_id, name)
            if after is None:
                return held, None
            return after, next(one for one in after.passkeys if one.id == passkey_id)

        return await self._store.change(caller.user_id, decide)

    async def remove_passkey(self, caller: Caller, passkey_id: str) -> bool:
        """False: the account has no such passkey. Raises LastWayIn."""
        has_other_way_in = await self._has_other_way_in(caller.user_id)

        def decide(held: SecondFactors) -> tuple[SecondFactors, str | None]:
            after = second_factors.remove_passkey(held, passkey_id, has_other_way_in=has_other_way_in)
            if after is None:
                return held, None
            return after, next(one.name for one in held.passkeys if one.id == passkey_id)

        name = await self._store.change(caller.user_id, decide)
        if name is None:
            return False
        await self._changed(caller, "passkey_removed", passkey=name)
        return True

    def _draw_codes(self, user_id: str) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
        """Return ten codes and what is kept of them."""
        codes = tuple(
            recovery_codes.shown(secrets.token_bytes(recovery_codes.SECRET_BYTES)) for _ in range(recovery_codes.COUNT)
        )
        return codes, tuple(recovery_codes.digest(code, user_id=user_id, key=self._recovery_key) for code in codes)

    async def _changed(self, caller: Caller, kind: Kind, **details: str) -> None:
        await self._artefacts.cancel(caller.user_id, CANCELLED)
        await self._audit.record(
            caller.user_id, kind, origin=caller.origin, session_id=caller.session_id, details=details
        )


def _name(name: str) -> str:
    name = accounts.tidy(name)
    if not (1 <= len(name) <= MAX_NAME and name.isprintable()):
        raise InvalidBody(Invalid("/name", f"A name has 1 to {MAX_NAME} characters, none of them control characters."))
    return name
