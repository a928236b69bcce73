from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fitness_api.identity.errors import LastWayIn, NoSecondFactor, PasskeyRefused, TooManyPasskeys, TotpNotBegun
from fitness_api.identity.factors import second_factors as module
from fitness_api.identity.factors import totp
from fitness_api.identity.factors.passkeys import Passkey
from fitness_api.identity.factors.second_factors import (
    FREE_GUESSES,
    LONGEST_WAIT_MS,
    MAX_GUESSES,
    MAX_PASSKEYS,
    PENDING_MS,
    Right,
    SecondFactors,
    Wait,
    Wrong,
    add_passkey,
    begin_totp,
    confirm_totp,
    passkey_of,
    remove_passkey,
    remove_totp,
    rename_passkey,
    renew_codes,
    use_code,
    use_passkey,
    use_totp,
    wait_ms,
)

NOW_MS: Final = 4_000_000_000_000
KEY = totp.derive_key(b"m" * 32)
SECRET = b"s" * totp.SECRET_BYTES
CODES = (b"1", b"2")
NOTHING = SecondFactors(user_id="ada")


def sealed(secret: bytes = SECRET) -> bytes:
    return totp.seal(secret, user_id="ada", nonce=b"n" * totp.NONCE_BYTES, key=KEY)


def code(at_ms: int = NOW_MS, secret: bytes = SECRET) -> str:
    return totp.code(secret, totp.step_of(at_ms))


def confirmed(held: SecondFactors = NOTHING) -> SecondFactors:
    after = confirm_totp(begin_totp(held, sealed(), NOW_MS), code(), CODES, key=KEY, now_ms=NOW_MS)
    assert after is not None
    return after


def passkey(name: str) -> Passkey:
    return Passkey(
        id=name,
        credential_id=name.encode(),
        public_key=b"",
        sign_count=0,
        synced=False,
        backed_up=False,
        aaguid="",
        name=name,
        created_at_ms=NOW_MS,
    )


def guess(held: SecondFactors, presented: str, at_ms: int = NOW_MS) -> Right | Wrong | Wait:
    return use_totp(held, presented, key=KEY, now_ms=at_ms)


def wrong(at_ms: int) -> str:
    right = {totp.code(SECRET, totp.step_of(at_ms) + off) for off in (-1, 0, 1)}
    return next(one for one in ("000000", "000001", "000002", "000003") if one not in right)


def test_an_app_is_active_once_it_was_confirmed_and_brings_recovery_codes() -> None:
    begun = begin_totp(NOTHING, sealed(), NOW_MS)
    assert begun.ways == ()
    assert confirm_totp(begun, wrong(NOW_MS), CODES, key=KEY, now_ms=NOW_MS) is None
    after = confirmed()
    assert after.ways == ("totp", "recovery_code")
    assert (after.begun, after.recovery_digests) == (None, CODES)


def test_what_was_begun_expires() -> None:
    begun = begin_totp(NOTHING, sealed(), NOW_MS)
    late_ms = NOW_MS + PENDING_MS
    assert confirm_totp(begun, code(late_ms - 1), CODES, key=KEY, now_ms=late_ms - 1)
    with pytest.raises(TotpNotBegun):
        confirm_totp(begun, code(late_ms), CODES, key=KEY, now_ms=late_ms)
    with pytest.raises(TotpNotBegun):
        confirm_totp(confirmed(), code(), CODES, key=KEY, now_ms=NOW_MS)


def test_the_old_app_works_until_the_new_one_is_confirmed() -> None:
    later_ms = NOW_MS + 60_000
    new = b"t" * totp.SECRET_BYTES
    held = begin_totp(confirmed(), sealed(new), later_ms)
    assert isinstance(guess(held, code(later_ms), later_ms), Right)
    after = confirm_totp(held, code(later_ms, new), (b"3",), key=KEY, now_ms=later_ms)
    assert after is not None
    assert after.recovery_digests == (b"3",)
    still_ms = later_ms + 60_000
    assert isinstance(guess(after, code(still_ms), still_ms), Wrong)
    assert isinstance(guess(after, code(still_ms, new), still_ms), Right)


def test_a_code_works_once_and_none_before_it_any_more() -> None:
    held = confirmed()
    assert isinstance(guess(held, code()), Wrong)  # it confirmed the app
    later_ms = NOW_MS + 60_000
    match guess(held, code(later_ms), later_ms):
        case Right(after):
            assert isinstance(guess(after, code(later_ms), later_ms), Wrong)
            assert isinstance(guess(after, code(later_ms - 30_000), later_ms), Wrong)
            assert isinstance(guess(after, code(later_ms + 30_000), later_ms), Right)
        case other:
            raise AssertionError(other)


def test_guesses_are_few_and_the_chance_of_one_is_what_the_page_says() -> None:
    """As fast as is allowed: 100 codes in some four days, then none. Three of a million fit at a time."""
    held, at_ms, looked_at = confirmed(), NOW_MS, 0
    on_first_day = 0
    while True:
        match guess(held, wrong(at_ms), at_ms):
            case Wrong(after):
                held, looked_at = after, looked_at + 1
                on_first_day += at_ms - NOW_MS < 24 * 3600 * 1000
            case Wait(None):
                break
            case Wait(int() as left_ms):
                at_ms += left_ms
            case other:
                raise AssertionError(other)
    assert looked_at == MAX_GUESSES == 100
    assert on_first_day == 34
    assert 3 * 24 * 3600 * 1000 < at_ms - NOW_MS < 5 * 24 * 3600 * 1000
    assert looked_at * (2 * totp.TOLERANCE_STEPS + 1) / 10**totp.DIGITS <= 3e-4
    assert guess(held, code(at_ms), at_ms) == Wait(None)
    assert isinstance(guess(use_code(held, ()), code(at_ms), at_ms), Right)


def test_while_one_waits_even_the_right_code_is_not_looked_at() -> None:
    held = confirmed()
    for _ in range(FREE_GUESSES):
        guessed = guess(held, wrong(NOW_MS))
        assert isinstance(guessed, Wrong)
        held = guessed.after
    assert guess(held, code(NOW_MS + 30_000)) == Wait(module.FIRST_WAIT_MS)
    assert isinstance(guess(held, code(NOW_MS + 30_000), NOW_MS + module.FIRST_WAIT_MS), Right)
    # A clock that was set back.
    assert guess(held, code(), NOW_MS - 10**9) == Wait(module.FIRST_WAIT_MS)


@given(st.integers(0, 10**6))
def test_each_wait_is_as_long_as_the_one_before_or_longer(wrong_codes: int) -> None:
    before, after = wait_ms(wrong_codes), wait_ms(wrong_codes + 1)
    assert after is None or (before is not None and before <= after <= LONGEST_WAIT_MS)


def test_a_right_code_or_a_passkey_ends_the_count() -> None:
    held = replace(add_passkey(confirmed(), passkey("phone"), ()), wrong_codes=4, wrong_at_ms=NOW_MS)
    later_ms = NOW_MS + 60_000
    right = guess(held, code(later_ms), later_ms)
    assert isinstance(right, Right)
    assert right.after.wrong_codes == use_passkey(held, passkey("phone")).wrong_codes == 0


def test_without_an_app_every_code_is_wrong() -> None:
    assert isinstance(guess(NOTHING, "000000"), Wrong)


def test_recovery_codes_stand_for_something() -> None:
    with pytest.raises(NoSecondFactor):
        renew_codes(NOTHING, CODES, NOW_MS)
    held = confirmed()
    assert renew_codes(held, (b"3",), NOW_MS).recovery_digests == (b"3",)
    assert use_code(held, ()).ways == ("totp",)
    assert remove_totp(held).recovery_digests == ()
    both = add_passkey(held, passkey("phone"), (b"9",))
    assert both.recovery_digests == CODES
    assert remove_totp(both).ways == ("passkey", "recovery_code")
    gone = remove_passkey(remove_totp(both), "phone", has_other_way_in=True)
    assert gone is not None
    assert (gone.ways, gone.recovery_digests, gone.recovery_made_at_ms) == ((), (), None)


def test_the_first_passkey_brings_recovery_codes() -> None:
    held = add_passkey(NOTHING, passkey("phone"), CODES)
    assert (held.ways, held.recovery_digests) == (("passkey", "recovery_code"), CODES)
    assert add_passkey(held, passkey("laptop"), (b"9",)).recovery_digests == CODES


def test_passkeys_are_so_many_and_each_once() -> None:
    held = NOTHING
    for n in range(MAX_PASSKEYS):
        held = add_passkey(held, passkey(f"{n}"), ())
        with pytest.raises(PasskeyRefused if n + 1 < MAX_PASSKEYS else TooManyPasskeys):
            add_passkey(held, passkey(f"{n}"), ())
    with pytest.raises(TooManyPasskeys):
        add_passkey(held, passkey("more"), ())


def test_passkeys_are_renamed_used_and_removed_by_themselves() -> None:
    held = add_passkey(add_passkey(NOTHING, passkey("phone"), CODES), passkey("laptop"), ())
    renamed = rename_passkey(held, "phone", "Pixel")
    assert renamed is not None
    assert [one.name for one in renamed.passkeys] == ["Pixel", "laptop"]
    found = passkey_of(renamed, b"phone")
    assert found is not None
    used = use_passkey(renamed, replace(found, sign_count=3))
    assert [one.sign_count for one in used.passkeys] == [3, 0]
    left = remove_passkey(used, "phone", has_other_way_in=False)
    assert left is not None
    assert [one.name for one in left.passkeys] == ["laptop"]
    assert rename_passkey(left, "phone", "x") is None
    assert remove_passkey(left, "phone", has_other_way_in=False) is None
    assert passkey_of(left, b"phone") is None


def test_the_last_way_in_stays() -> None:
    held = add_passkey(NOTHING, passkey("phone"), CODES)
    with pytest.raises(LastWayIn):
        remove_passkey(held, "phone", has_other_way_in=False)
    assert remove_passkey(held, "phone", has_other_way_in=True)
