"""What holds and, above all, what does not. The CVEs are those of JWT libraries; the probes are ours."""

import base64
import json
from collections.abc import Callable
from hmac import digest
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.identity import access_tokens, signing_keys
from fitness_api.identity.errors import AccessTokenInvalid, SigningKeyUnknown
from fitness_api.identity.signing_keys import SigningKey

NOW_S = 1_800_000_000
ISSUER = "https://api.example.org"
KEY = SigningKey("k1", ec.generate_private_key(ec.SECP256R1()))
OTHER = SigningKey("k2", ec.generate_private_key(ec.SECP256R1()))
KEYS = {"k1": KEY.private.public_key()}
PEM = KEY.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
JWK: dict[str, Any] = {"kty": "EC", "crv": "P-256", "kid": "k1"} | {
    axis: base64.urlsafe_b64encode(getattr(KEY.private.public_key().public_numbers(), axis).to_bytes(32))
    .decode()
    .rstrip("=")
    for axis in "xy"
}
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


def segment(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def es256(message: bytes, key: SigningKey = KEY) -> bytes:
    return jwt.get_algorithm_by_name("ES256").sign(message, key.private)


def signed(header: object = HEADER, claims: object = CLAIMS, sign: Callable[[bytes], bytes] = es256) -> str:
    head = f"{segment(header)}.{segment(claims)}"
    return f"{head}.{segment(sign(head.encode()))}"


def hmac(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda message: digest(secret, message, "sha256")


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


REFUSED: dict[str, str] = {
    "empty": "",
    "one segment": "abc",
    "dots": "...",
    "JSON serialisation": json.dumps({"payload": segment(CLAIMS), "protected": segment(HEADER), "signature": ""}),
    "JWE": ".".join([segment({"alg": "dir", "enc": "A256GCM", "typ": "at+jwt", "kid": "k1"}), "", "a", "b", "c"]),
    "not ASCII": minted() + "é",
    "lone surrogate": minted() + "\ud800",
    "line end": minted() + "\n",
    "trailing junk": minted() + "!!",
    "no signature": minted().rpartition(".")[0] + ".",
    "signature of zeros": signed(sign=lambda _: bytes(64)),  # CVE-2022-21449
    "signature in DER": signed(sign=lambda message: KEY.private.sign(message, ec.ECDSA(SHA256()))),
    "another's key under our kid": signed(sign=lambda message: es256(message, OTHER)),
    "alg none": signed({**HEADER, "alg": "none"}, sign=lambda _: b""),
    "alg None": signed({**HEADER, "alg": "None"}, sign=lambda _: b""),
    "alg nOnE": signed({**HEADER, "alg": "nOnE"}, sign=lambda _: b""),
    "alg empty": signed({**HEADER, "alg": ""}, sign=lambda _: b""),
    "alg missing": signed({"typ": "at+jwt", "kid": "k1"}),
    "alg null": signed({**HEADER, "alg": None}),
    "alg list": signed({**HEADER, "alg": ["ES256"]}),
    "alg lower case": signed({**HEADER, "alg": "es256"}),
    "HMAC with PEM": signed({**HEADER, "alg": "HS256"}, sign=hmac(PEM)),  # CVE-2022-29217
    "HMAC with PEM, no last line end": signed({**HEADER, "alg": "HS256"}, sign=hmac(PEM.strip())),
    "HMAC with PEM, prefixed": signed({**HEADER, "alg": "HS256"}, sign=hmac(b"\n" + PEM)),
    "HMAC with JWK": signed({**HEADER, "alg": "HS256"}, sign=hmac(json.dumps(JWK).encode())),  # GHSA-xgmm-8j9v-c9wx
    "HMAC with nothing": signed({**HEADER, "alg": "HS256"}, sign=hmac(b"")),
    "ES256 that is HMAC": signed(sign=hmac(PEM)),
    "ES384": signed({**HEADER, "alg": "ES384"}),
    "RS256": signed({**HEADER, "alg": "RS256"}),
    "embedded jwk": signed({**HEADER, "jwk": JWK}),  # CVE-2026-27962
    "embedded jwk of a thief": signed({**HEADER, "jwk": {**JWK, "x": JWK["y"]}}, sign=lambda m: es256(m, OTHER)),
    "jku": signed({**HEADER, "jku": "https://evil.example/jwks.json"}),
    "x5u": signed({**HEADER, "x5u": "file:///etc/passwd"}),
    "x5c": signed({**HEADER, "x5c": ["MIIB"]}),
    "crit": signed({**HEADER, "crit": ["exp"], "exp": 1}),  # CVE-2025-59420
    "crit unknown": signed({**HEADER, "crit": ["x"], "x": 1}),
    "b64 false": signed({**HEADER, "crit": ["b64"], "b64": False}),
    "zip": signed({**HEADER, "zip": "DEF"}),
    "typ JWT": signed({**HEADER, "typ": "JWT"}),
    "typ missing": signed({"alg": "ES256", "kid": "k1"}),
    "typ of an ID token": signed({**HEADER, "typ": "id+jwt"}),
    "typ logout": signed({**HEADER, "typ": "logout+jwt"}),
    "typ number": signed({**HEADER, "typ": 1}),
    "kid missing": signed({"alg": "ES256", "typ": "at+jwt"}),
    "kid null": signed({**HEADER, "kid": None}),
    "kid list": signed({**HEADER, "kid": ["k1"]}),
    "kid path": signed({**HEADER, "kid": "../../../dev/null"}),
    "kid query": signed({**HEADER, "kid": "k1' OR '1'='1"}),
    "kid operator": signed({**HEADER, "kid": {"$ne": ""}}),
    "header of a list": signed([HEADER]),
    "header nested": signed(b'{"alg":' + b"[" * 3000 + b"]" * 3000 + b"}"),
    "header not UTF-8": signed(b'{"alg":"ES256","typ":"at+jwt","kid":"\xff"}'),
    "claims of a list": signed(claims=[CLAIMS]),
    "claims not JSON": signed(claims=b"exp=1"),
    "claims nested": signed(claims=b'{"x":' + b"[" * 2500 + b"]" * 2500 + b"}"),
    "exp as text": signed(claims={**CLAIMS, "exp": str(NOW_S + 600)}),
    "exp as fraction": signed(claims={**CLAIMS, "exp": NOW_S + 600.5}),
    "exp NaN": signed(claims={**CLAIMS, "exp": float("nan")}),
    "exp infinite": signed(claims=json.dumps(CLAIMS).replace(str(NOW_S + 600), "1e400").encode()),
    "exp true": signed(claims={**CLAIMS, "exp": True}),
    "exp null": signed(claims={**CLAIMS, "exp": None}),
    "exp negative": signed(claims={**CLAIMS, "exp": -1}),
    "exp now": signed(claims={**CLAIMS, "exp": NOW_S}),
    "iat to come": signed(claims={**CLAIMS, "iat": NOW_S + 61}),
    "iss another": signed(claims={**CLAIMS, "iss": "https://evil.example"}),
    "iss with slash": signed(claims={**CLAIMS, "iss": ISSUER + "/"}),
    "aud another": signed(claims={**CLAIMS, "aud": "https://other.example"}),
    "aud list": signed(claims={**CLAIMS, "aud": [ISSUER]}),
    "sub number": signed(claims={**CLAIMS, "sub": 1}),
    "scope list": signed(claims={**CLAIMS, "scope": ["admin"]}),
    **{f"{claim} missing": signed(claims={k: v for k, v in CLAIMS.items() if k != claim}) for claim in CLAIMS},
}


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
