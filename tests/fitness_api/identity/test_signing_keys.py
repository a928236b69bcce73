import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.identity import signing_keys
from fitness_api.identity.errors import SigningKeysUnreadable
from fitness_api.identity.signing_keys import (
    PUBLISH_BEFORE_MS,
    RETIRE_FOR_MS,
    ROTATE_AFTER_MS,
    Drop,
    Make,
    Move,
    State,
    StoredKey,
    due,
)

SEALING_KEY = signing_keys.derive_key(b"m" * 32)


def made(kid: str = "a", state: State = "current", since_ms: int = 0, secret: bytes = b"s" * 48) -> StoredKey:
    return signing_keys.make(
        kid=kid, state=state, secret=secret, nonce=b"n" * 12, sealing_key=SEALING_KEY, now_ms=since_ms
    )


@given(st.binary(min_size=48, max_size=48))
def test_a_key_comes_back_from_its_seal_and_fits_what_is_published(secret: bytes) -> None:
    stored = made(secret=secret)
    signing = signing_keys.unseal(stored, SEALING_KEY)
    published = signing_keys.public_key(stored.public)
    assert signing.private.public_key() == published
    theirs = jwt.PyJWK(msgspec.to_builtins(stored.public), algorithm="ES256").key
    assert isinstance(theirs, ec.EllipticCurvePublicKey)
    assert theirs == published


def test_nothing_of_the_secret_is_at_rest_in_clear() -> None:
    stored = made()
    scalar = signing_keys.unseal(stored, SEALING_KEY).private.private_numbers().private_value.to_bytes(32)
    assert scalar not in stored.sealed
    assert scalar not in msgspec.json.encode(stored.public)


def test_a_seal_holds_only_under_its_key_its_kid_and_its_bytes() -> None:
    stored = made()
    other = signing_keys.derive_key(b"x" * 32)
    renamed = msgspec.structs.replace(stored, kid="b")
    altered = msgspec.structs.replace(stored, sealed=stored.sealed[:-1] + bytes([stored.sealed[-1] ^ 1]))
    for key, sealing_key in ((stored, other), (renamed, SEALING_KEY), (altered, SEALING_KEY)):
        with pytest.raises(SigningKeysUnreadable):
            signing_keys.unseal(key, sealing_key)


def test_rotation_step_by_step() -> None:
    assert due([], 0) == Make("current")
    current = made("a")
    assert due([current], 0) == Make("next")
    following = made("b", "next", 0)
    assert due([current, following], ROTATE_AFTER_MS - 1) is None
    assert due([current, following], ROTATE_AFTER_MS) == Move("a", "current", "retired")
    retired = msgspec.structs.replace(current, state="retired", state_since_ms=ROTATE_AFTER_MS)
    assert due([retired, following], ROTATE_AFTER_MS) == Move("b", "next", "current")
    promoted = msgspec.structs.replace(following, state="current", state_since_ms=ROTATE_AFTER_MS)
    assert due([retired, promoted], ROTATE_AFTER_MS) == Make("next")
    third = made("c", "next", ROTATE_AFTER_MS)
    assert due([retired, promoted, third], ROTATE_AFTER_MS + RETIRE_FOR_MS - 1) is None
    assert due([retired, promoted, third], ROTATE_AFTER_MS + RETIRE_FOR_MS) == Drop("a")


def test_a_key_published_late_is_still_published_for_long_enough() -> None:
    current, following = made("a"), made("b", "next", 2 * ROTATE_AFTER_MS)
    assert due([current, following], 2 * ROTATE_AFTER_MS + PUBLISH_BEFORE_MS - 1) is None
    assert due([current, following], 2 * ROTATE_AFTER_MS + PUBLISH_BEFORE_MS) == Move("a", "current", "retired")


@given(st.lists(st.integers(0, 200 * 24 * 3600 * 1000), max_size=12))
def test_whenever_somebody_looks_there_is_one_key_to_sign_with_and_no_token_loses_its_key(pauses: list[int]) -> None:
    keys: dict[str, StoredKey] = {}
    now_ms, number = 0, 0
    last_signed_ms: dict[str, int] = {}
    for pause_ms in [0, *pauses]:
        now_ms += pause_ms
        for _ in range(20):
            match due(list(keys.values()), now_ms):
                case Make(state):
                    number += 1
                    keys[str(number)] = msgspec.structs.replace(
                        _TEMPLATE, kid=str(number), state=state, state_since_ms=now_ms
                    )
                case Move(kid, before, after):
                    assert keys[kid].state == before
                    keys[kid] = msgspec.structs.replace(keys[kid], state=after, state_since_ms=now_ms)
                case Drop(kid):
                    assert now_ms - last_signed_ms[kid] > 600_000
                    del keys[kid]
                case None:
                    break
        else:
            pytest.fail("rotation does not come to rest")
        states = [key.state for key in keys.values()]
        assert states.count("current") == 1
        assert states.count("next") <= 1
        last_signed_ms[next(key.kid for key in keys.values() if key.state == "current")] = now_ms


_TEMPLATE = made()
