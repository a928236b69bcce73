"""What holds and, above all, what does not. The CVEs are those of JWT libraries; the probes are ours."""

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.identity import access_tokens, signing_keys
from fitness_api.identity.errors import AccessTokenInvalid, SigningKeyUnknown
from fitness_api.identity.signing_keys import SigningKey
from tests.fitness_api.identity import bad_tokens

NOW_S = 1_800_000_000
ISSUER = "https://api.example.org"
KEY = SigningKey("k1", ec.generate_private_key(ec.SECP256R1()))
OTHER = SigningKey("k2", ec.generate_private_key(ec.SECP256R1()))
KEYS = {"k1": KEY.private.public_key()}
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": ISSUER,
    "sub": "user",
    "client_id": "app",
    "jti": "1",
    "iat": NOW_S,
    "exp": NOW_S + 600,
    "scope": "account sync",
    "sid": "session",
    "gen": 3,
    "auth_time": NOW_S - 60,
}
HEADER: dict[str, Any] = {"alg": "ES256", "typ": "at+jwt", "kid": "k1"}


def minted(key: SigningKey = KEY) -> str:
    return access_tokens.mint(
        key,
        issuer=ISSUER,
        audience=ISSUER,
        user_id="user",
        session_id="session",
        client_id="app",
        scopes=["sync", "account"],
        generation=3,
        authenticated_at_s=NOW_S - 60,
        now_s=NOW_S,
        token_id="1",
    )


def verify(token: str, now_s: int = NOW_S) -> access_tokens.Principal:
    return access_tokens.verify(token, KEYS, now_s, issuer=ISSUER, audience=ISSUER)


def signed(header: object = HEADER, claims: object = CLAIMS) -> str:
    return bad_tokens.signed(header, claims, bad_tokens.es256(KEY))


def test_a_minted_token_says_who_calls() -> None:
    assert verify(minted()) == access_tokens.Principal(
        user_id="user",
        session_id="session",
        client_id="app",
        scopes=frozenset({"sync", "account"}),
        generation=3,
        expires_at_s=NOW_S + 600,
        authenticated_at_s=NOW_S - 60,
    )


def test_a_minted_token_is_as_rfc_9068_asks_and_any_library_reads_it() -> None:
    token = minted()
    assert jwt.get_unverified_header(token) == HEADER
    options: Any = {"verify_exp": False, "verify_iat": False}
    assert (
        jwt.decode(token, KEYS["k1"], algorithms=["ES256"], audience=ISSUER, issuer=ISSUER, options=options) == CLAIMS
    )
    assert len(token) < 1024


def test_the_probe_itself_holds() -> None:
    assert verify(signed()) == verify(minted())
    assert verify(signed({**HEADER, "typ": "application/AT+JWT"})) == verify(minted())


def test_it_ends_when_it_says() -> None:
    assert verify(minted(), NOW_S + 599)
    with pytest.raises(AccessTokenInvalid, match="expired"):
        verify(minted(), NOW_S + 600)
    with pytest.raises(AccessTokenInvalid, match="future"):
        verify(minted(), NOW_S - 61)
    assert verify(minted(), NOW_S - 60)


def test_another_kid_says_that_only_the_key_is_missing() -> None:
    with pytest.raises(SigningKeyUnknown):
        verify(minted(OTHER))


REFUSED: dict[str, str] = bad_tokens.refused(KEY, CLAIMS, now_s=NOW_S)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(AccessTokenInvalid):
        verify(REFUSED[name])


@pytest.mark.parametrize("size", [access_tokens.MAX_TOKEN_BYTES + 1, 20_000_000])
def test_an_oversized_token_is_refused_before_it_is_read(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(*_: object) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(access_tokens, "urlsafe_b64decode", unread)
    with pytest.raises(AccessTokenInvalid):
        verify("A" * size)


def test_the_greatest_size_is_read() -> None:
    padded = signed(claims={**CLAIMS, "x": "x" * 5500})
    assert 7500 < len(padded) <= access_tokens.MAX_TOKEN_BYTES
    assert verify(padded).user_id == "user"


@given(st.data())
def test_no_character_can_be_another(data: st.DataObject) -> None:
    token = minted()
    # The last character's lowest bits mean nothing in base64.
    place = data.draw(st.integers(0, len(token) - 2))
    character = data.draw(st.characters(codec="ascii").filter(lambda c: c != token[place]))
    with pytest.raises(AccessTokenInvalid):
        verify(token[:place] + character + token[place + 1 :])


def test_public_keys_as_published_verify() -> None:
    stored = signing_keys.make(
        kid="k3", state="current", secret=b"s" * 48, nonce=b"n" * 12, sealing_key=b"k" * 32, now_ms=0
    )
    token = minted(signing_keys.unseal(stored, b"k" * 32))
    keys = {"k3": signing_keys.public_key(stored.public)}
    assert access_tokens.verify(token, keys, NOW_S, issuer=ISSUER, audience=ISSUER).user_id == "user"
