import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.identity.factors import recovery_codes
from fitness_api.identity.factors.recovery_codes import digest, shown, without

KEY = recovery_codes.derive_key(b"m" * 32)
secrets = st.binary(min_size=recovery_codes.SECRET_BYTES, max_size=recovery_codes.SECRET_BYTES)


def test_a_code_has_eighty_bits() -> None:
    assert recovery_codes.SECRET_BYTES * 8 == recovery_codes.CHARACTERS * 5 == 80


@given(secrets, secrets)
def test_codes_differ_as_their_secrets_do(one: bytes, other: bytes) -> None:
    assert (shown(one) == shown(other)) == (one == other)
    assert re.fullmatch(r"[0-9a-hjkmnp-tv-z]{4}(-[0-9a-hjkmnp-tv-z]{4}){3}", shown(one))


@given(secrets)
def test_a_code_may_be_typed_in_many_ways(secret: bytes) -> None:
    code = shown(secret)
    typed = (
        code.upper(),
        code.replace("-", ""),
        f"  {code.replace('-', ' ')}\n",
        code.replace("0", "o").replace("1", "l"),
        code.replace("0", "O").replace("1", "I"),
    )
    assert {digest(one, user_id="ada", key=KEY) for one in typed} == {digest(code, user_id="ada", key=KEY)}


@given(secrets)
def test_a_digest_is_of_one_account_and_key(secret: bytes) -> None:
    code = shown(secret)
    digests = {
        digest(code, user_id="ada", key=KEY),
        digest(code, user_id="bob", key=KEY),
        digest(code, user_id="ada", key=recovery_codes.derive_key(b"x" * 32)),
    }
    assert len(digests) == 3


def test_a_used_code_leaves_the_others() -> None:
    kept = (b"a", b"b", b"c")
    assert without(b"b", kept) == (b"a", b"c")
    assert without(b"d", kept) is None
    assert without(b"d", ()) is None


@pytest.mark.parametrize("odd", ["", "-", "\ud800", "é" * 16])
def test_what_is_no_code_is_no_ones(odd: str) -> None:
    assert without(digest(odd, user_id="ada", key=KEY), (digest("0000", user_id="ada", key=KEY),)) is None
