"""What an account holds beside its password, and what becomes of it when something is added, used or removed."""

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from fitness_api.identity.errors import (
    LastWayIn,
    NoSecondFactor,
    PasskeyRefused,
    TooManyPasskeys,
    TotpNotBegun,
)
from fitness_api.identity.factors import totp
from fitness_api.identity.factors.passkeys import Passkey

Way = Literal["totp", "passkey", "recovery_code"]

# Begun and never confirmed: as long as it takes to install an app first.
PENDING_MS: Final = 15 * 60 * 1000
MAX_PASSKEYS: Final = 20  # more devices than anybody logs in from, and few enough to be asked about in one answer

# Three of a million codes fit at any time. So many wrong ones in a row are a person's; then each waits twice as long as the
# one before, up to an hour; and after a hundred (NIST SP 800-63B-4 section 3.2.2) no code is looked at until another way in was used.
FREE_GUESSES: Final = 5
FIRST_WAIT_MS: Final = 30_000
LONGEST_WAIT_MS: Final = 3600 * 1000
MAX_GUESSES: Final = 100


class Totp(Struct, frozen=True, kw_only=True):
    """`sealed` is the app's secret, `last_step` the step of the last code that was used: no code works twice."""

    sealed: bytes
    since_ms: int
    last_step: int


class Begun(Struct, frozen=True, kw_only=True):
    sealed: bytes
    expires_at_ms: int


class SecondFactors(Struct, frozen=True, kw_only=True):
    """`version` counts the changes. wrong_codes: since one was right, or another way was used; the last came at wrong_at_ms."""

    user_id: str
    version: int = 0
    totp: Totp | None = None
    begun: Begun | None = None
    wrong_codes: int = 0
    wrong_at_ms: int = 0
    recovery_digests: tuple[bytes, ...] = ()
    recovery_made_at_ms: int | None = None
    passkeys: tuple[Passkey, ...] = ()

    @property
    def ways(self) -> tuple[Way, ...]:
        """How a login may be completed; none where there is no second factor."""
        ways: list[Way] = []
        if self.passkeys:
            ways.append("passkey")
        if self.totp is not None:
            ways.append("totp")
        if ways and self.recovery_digests:
            ways.append("recovery_code")
        return tuple(ways)


class Right(Struct, frozen=True):
    after: SecondFactors


class Wrong(Struct, frozen=True):
    """Store `after`: the guess counts."""

    after: SecondFactors


class Wait(Struct, frozen=True):
    """The code was not looked at. None: not before another way was used."""

    retry_after_ms: int | None


def wait_ms(wrong_codes: int) -> int | None:
    """Return how long after so many wrong codes in a row the next one is not looked at. None: for ever."""
    if wrong_codes >= MAX_GUESSES:
        return None
    if wrong_codes < FREE_GUESSES:
        return 0
    return min(FIRST_WAIT_MS << min(wrong_codes - FREE_GUESSES, 32), LONGEST_WAIT_MS)


def begin_totp(held: SecondFactors, sealed: bytes, now_ms: int) -> SecondFactors:
    """The app that is in use stays in use until this one is confirmed."""
    return replace(held, begun=Begun(sealed=sealed, expires_at_ms=now_ms + PENDING_MS))


def confirm_totp(
    held: SecondFactors, code: str, recovery_digests: Sequence[bytes], *, key: bytes, now_ms: int
) -> SecondFactors | None:
    """None: the code is wrong. Raises TotpNotBegun if nothing waits to be confirmed (any more)."""
    if held.begun is None or now_ms >= held.begun.expires_at_ms:
        raise TotpNotBegun
    secret = totp.unseal(held.begun.sealed, user_id=held.user_id, key=key)
    step = totp.matching_step(totp.normalised(code), secret, now_ms=now_ms, after=-1)
    if step is None:
        return None
    active = Totp(sealed=held.begun.sealed, since_ms=now_ms, last_step=step)
    return renew_codes(replace(held, totp=active, begun=None, wrong_codes=0, wrong_at_ms=0), recovery_digests, now_ms)


def remove_totp(held: SecondFactors) -> SecondFactors:
    """What was begun goes too, and the recovery codes if nothing is left that they could stand for."""
    return _without_idle_codes(replace(held, totp=None, begun=None, wrong_codes=0, wrong_at_ms=0))


def use_totp(held: SecondFactors, code: str, *, key: bytes, now_ms: int) -> Right | Wrong | Wait:
    wait = wait_ms(held.wrong_codes)
    if wait is None:
        return Wait(None)
    # A clock that was set back makes nobody wait longer than the wait.
    if (left_ms := min(held.wrong_at_ms + wait - now_ms, wait)) > 0:
        return Wait(left_ms)
    if held.totp is not None:
        secret = totp.unseal(held.totp.sealed, user_id=held.user_id, key=key)
        step = totp.matching_step(totp.normalised(code), secret, now_ms=now_ms, after=held.totp.last_step)
        if step is not None:
            return Right(replace(held, totp=replace(held.totp, last_step=step), wrong_codes=0, wrong_at_ms=0))
    return Wrong(replace(held, wrong_codes=held.wrong_codes + 1, wrong_at_ms=now_ms))


def renew_codes(held: SecondFactors, digests: Sequence[bytes], now_ms: int) -> SecondFactors:
    """Raises NoSecondFactor where there is none that they could stand for."""
    if held.totp is None and not held.passkeys:
        raise NoSecondFactor
    return replace(held, recovery_digests=tuple(digests), recovery_made_at_ms=now_ms)


def use_code(held: SecondFactors, left: Sequence[bytes]) -> SecondFactors:
    """`left` are the digests without the one that was used."""
    return replace(held, recovery_digests=tuple(left), wrong_codes=0, wrong_at_ms=0)


def add_passkey(held: SecondFactors, passkey: Passkey, recovery_digests: Sequence[bytes]) -> SecondFactors:
    """The recovery codes become these if there were none.

    Raises TooManyPasskeys, or PasskeyRefused if the account has it already.
    """
    if len(held.passkeys) >= MAX_PASSKEYS:
        raise TooManyPasskeys(limit=MAX_PASSKEYS)
    if any(known.credential_id == passkey.credential_id for known in held.passkeys):
        raise PasskeyRefused
    first = not held.ways
    after = replace(held, passkeys=(*held.passkeys, passkey))
    return renew_codes(after, recovery_digests, passkey.created_at_ms) if first else after


def passkey_of(held: SecondFactors, credential_id: bytes) -> Passkey | None:
    return next((known for known in held.passkeys if known.credential_id == credential_id), None)


def use_passkey(held: SecondFactors, after: Passkey) -> SecondFactors:
    """It also ends the wait for codes: whoever holds the passkey is no guesser."""
    return replace(
        held,
        passkeys=tuple(after if one.id == after.id else one for one in held.passkeys),
        wrong_codes=0,
        wrong_at_ms=0,
    )


def rename_passkey(held: SecondFactors, passkey_id: str, name: str) -> SecondFactors | None:
    """None: there is no such passkey."""
    if all(one.id != passkey_id for one in held.passkeys):
        return None
    return replace(
        held, passkeys=tuple(replace(one, name=name) if one.id == passkey_id else one for one in held.passkeys)
    )


def remove_passkey(held: SecondFactors, passkey_id: str, *, has_other_way_in: bool) -> SecondFactors | None:
    """None: there is no such passkey. Raises LastWayIn if nobody could log in any more."""
    left = tuple(one for one in held.passkeys if one.id != passkey_id)
    if len(left) == len(held.passkeys):
        return None
    if not left and not has_other_way_in:
        raise LastWayIn
    return _without_idle_codes(replace(held, passkeys=left))


def _without_idle_codes(held: SecondFactors) -> SecondFactors:
    if held.totp is not None or held.passkeys:
        return held
    return replace(held, recovery_digests=(), recovery_made_at_ms=None)
