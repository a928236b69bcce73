"""Showing that one holds a second factor, or a passkey in place of a password."""

from collections.abc import Callable
from typing import Final, NamedTuple

from fitness_api.identity.errors import NoSecondFactor, PasskeyRefused, SecondFactorRefused, TooManyGuesses
from fitness_api.identity.factors import passkeys, recovery_codes, second_factors, totp
from fitness_api.identity.factors.challenges import Challenges
from fitness_api.identity.factors.passkeys import Assertion, Party, Passkey, RequestOptions
from fitness_api.identity.factors.second_factors import Right, SecondFactors, Wait, Wrong
from fitness_api.identity.factors.store import FactorStore
from fitness_api.identity.key_ring import wall_clock_ms
from fitness_api.identity.single_use import SingleUse

# RFC 8176: a code that works once; a key in hardware, or one that is synced and so in software; the user was verified.
ONE_TIME_CODE: Final = "otp"
HARDWARE_KEY: Final = "hwk"
SOFTWARE_KEY: Final = "swk"
USER_VERIFIED: Final = "user"

# Waiting helps nobody then; the number is for clients that show one.
_NO_MORE_S: Final = 24 * 3600


class Proved(NamedTuple):
    user_id: str
    methods: tuple[str, ...]


class Proofs:
    def __init__(
        self,
        store: FactorStore,
        artefacts: SingleUse,
        party: Party,
        *,
        master_key: bytes,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._store = store
        self._challenges = Challenges(artefacts, now_ms=now_ms)
        self._party = party
        self._totp_key = totp.derive_key(master_key)
        self._recovery_key = recovery_codes.derive_key(master_key)
        self._now_ms = now_ms

    async def ways(self, user_id: str) -> tuple[str, ...]:
        """Return how a login to the account may be completed; none where it has no second factor."""
        return (await self._store.held(user_id)).ways

    async def totp(self, user_id: str, code: str) -> str:
        """Return the method by which the code proves. It is spent; a wrong one is counted.

        Raises SecondFactorRefused, or TooManyGuesses, and then it was not looked at.
        """
        now_ms = self._now_ms()

        def decide(held: SecondFactors) -> tuple[SecondFactors, Right | Wrong | Wait]:
            outcome = second_factors.use_totp(held, code, key=self._totp_key, now_ms=now_ms)
            return (held if isinstance(outcome, Wait) else outcome.after), outcome

        match await self._store.change(user_id, decide):
            case Wait(retry_after_ms):
                raise TooManyGuesses(retry_after_s=_NO_MORE_S if retry_after_ms is None else retry_after_ms // 1000 + 1)
            case Wrong(after):
                raise SecondFactorRefused(in_a_row=after.wrong_codes)
        return ONE_TIME_CODE

    async def recovery_code(self, user_id: str, code: str) -> str:
        """As `totp`. What nobody guesses is not counted."""
        presented = recovery_codes.digest(code, user_id=user_id, key=self._recovery_key)

        def decide(held: SecondFactors) -> tuple[SecondFactors, None]:
            left = recovery_codes.without(presented, held.recovery_digests)
            if left is None:
                raise SecondFactorRefused
            return second_factors.use_code(held, left), None

        await self._store.change(user_id, decide)
        return ONE_TIME_CODE

    async def passkey_options(self, user_id: str) -> RequestOptions:
        """Return what to ask the account's passkeys. Raises NoSecondFactor where it has none."""
        held = await self._store.held(user_id)
        if not held.passkeys:
            raise NoSecondFactor
        challenge = await self._challenges.draw("passkey_mfa", user_id)
        return passkeys.request_options(self._party, challenge=challenge, allowed=held.passkeys)

    async def passkey(self, user_id: str, assertion: Assertion) -> str:
        """Return the method by which the passkey proves, beside a password. Raises PasskeyRefused."""
        challenge = await self._challenges.redeem(assertion, "passkey_mfa", user_id)
        if passkeys.user_id_of(assertion) not in {None, user_id}:
            raise PasskeyRefused
        return _key_method(await self._use(user_id, assertion, challenge))

    async def login_options(self) -> RequestOptions:
        """Return what to ask whichever passkey of ours the device holds."""
        return passkeys.request_options(self._party, challenge=await self._challenges.draw("passkey_login"))

    async def login(self, assertion: Assertion) -> Proved:
        """Return whose passkey answered; it alone is enough. Raises PasskeyRefused."""
        challenge = await self._challenges.redeem(assertion, "passkey_login")
        user_id = passkeys.user_id_of(assertion)
        if user_id is None:
            raise PasskeyRefused
        used = await self._use(user_id, assertion, challenge)
        return Proved(user_id, (_key_method(used), USER_VERIFIED))

    async def _use(self, user_id: str, assertion: Assertion, challenge: str) -> Passkey:
        now_ms = self._now_ms()
        credential_id = passkeys.credential_id(assertion)

        def decide(held: SecondFactors) -> tuple[SecondFactors, Passkey]:
            # Of this account and id: one id in two accounts is two passkeys, and neither opens the other.
            known = second_factors.passkey_of(held, credential_id)
            if known is None:
                raise PasskeyRefused
            after = passkeys.authenticate(assertion, known, self._party, challenge=challenge, now_ms=now_ms)
            return second_factors.use_passkey(held, after), after

        return await self._store.change(user_id, decide)


def _key_method(passkey: Passkey) -> str:
    return SOFTWARE_KEY if passkey.synced else HARDWARE_KEY
