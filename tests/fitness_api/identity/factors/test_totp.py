from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.identity.errors import SecretsUnreadable
from fitness_api.identity.factors import totp

SECRET = b"12345678901234567890"
secrets = st.binary(min_size=totp.SECRET_BYTES, max_size=totp.SECRET_BYTES)
instants = st.integers(0, 2**42)


@pytest.mark.parametrize(
    ("at_s", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_codes_are_those_of_rfc_6238_appendix_b(at_s: int, code: str) -> None:
    assert totp.code(SECRET, totp.step_of(at_s * 1000)) == code[-totp.DIGITS :]


@given(secrets, instants, st.integers(-3, 3))
def test_a_code_holds_for_a_step_either_way_and_no_longer(secret: bytes, now_ms: int, off: int) -> None:
    now = totp.step_of(now_ms) + 3
    code = totp.code(secret, now + off)
    step = totp.matching_step(code, secret, now_ms=now * totp.STEP_S * 1000, after=-1)
    # Once in some 300,000 times two steps near one another have one code.
    assert (step is not None) == (code in {totp.code(secret, now + near) for near in (-1, 0, 1)})
    assert step is None or (abs(step - now) <= 1 and totp.code(secret, step) == code)


@given(secrets, st.integers(2, 2**37), st.integers(-1, 1))
def test_a_code_of_a_step_that_was_used_is_none(secret: bytes, now: int, off: int) -> None:
    code = totp.code(secret, now + off)
    found = totp.matching_step(code, secret, now_ms=now * totp.STEP_S * 1000, after=now + off)
    assert found is None or found > now + off


@pytest.mark.parametrize("wrong", ["", "12345", "1234567", "abcdef", "१२३४५६", "12345\n", "\ud800"])
def test_what_is_no_code_matches_nothing(wrong: str) -> None:
    assert totp.matching_step(totp.normalised(wrong), SECRET, now_ms=59_000, after=-1) is None


def test_spaces_within_a_code_do_not_matter() -> None:
    assert totp.matching_step(totp.normalised(" 287 082\n"), SECRET, now_ms=59_000, after=-1) == 1


@given(secrets, st.text(max_size=60))
def test_the_uri_is_read_as_it_was_meant(secret: bytes, account: str) -> None:
    account = account.encode(errors="ignore").decode()
    url = urlsplit(totp.uri(secret, service="Fit: ness", account=account))
    assert (url.scheme, url.netloc) == ("otpauth", "totp")
    service, colon, name = unquote(url.path).removeprefix("/").partition(":")
    assert (service, colon, name) == ("Fit  ness", ":", account.replace(":", " "))
    parameters = parse_qs(url.query)
    assert parameters == {
        "secret": [totp.encoded(secret)],
        "issuer": ["Fit  ness"],
        "algorithm": ["SHA1"],
        "digits": ["6"],
        "period": ["30"],
    }
    assert len(totp.encoded(secret)) == 32


def test_a_sealed_secret_opens_for_its_account_and_key_only() -> None:
    key = totp.derive_key(b"m" * 32)
    sealed = totp.seal(SECRET, user_id="ada", nonce=b"n" * totp.NONCE_BYTES, key=key)
    assert SECRET not in sealed
    assert totp.unseal(sealed, user_id="ada", key=key) == SECRET
    for user_id, other in (("bob", key), ("ada", totp.derive_key(b"x" * 32))):
        with pytest.raises(SecretsUnreadable):
            totp.unseal(sealed, user_id=user_id, key=other)
    with pytest.raises(SecretsUnreadable):
        totp.unseal(sealed[:-1] + bytes([sealed[-1] ^ 1]), user_id="ada", key=key)
