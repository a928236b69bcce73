import hmac
from base64 import urlsafe_b64encode
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.identity.errors import IdTokenInvalid, IssuerKeyUnknown
from fitness_api.identity.federation import id_tokens
from fitness_api.identity.federation.id_tokens import LEEWAY_S, MAX_KEYS, MAX_TOKEN_BYTES, Claims
from fitness_api.identity.federation.providers import Provider
from tests.fitness_api.identity.federation.issuing import (
    AUDIENCE,
    claims_of,
    ec_key,
    jwk,
    rsa_key,
    segment,
    signed,
    unsigned,
)

ISSUER = "https://issuer.test"
NOW_S = 1_800_000_000
PROVIDER = Provider(
    name="test",
    issuer=ISSUER,
    aliases=frozenset({"issuer.test"}),
    client_id=AUDIENCE,
    audiences=frozenset({AUDIENCE, "ios-client", "android-client"}),
    verifies_addresses=True,
    authoritative_domains=frozenset(),
    hosts_domains=False,
    scopes=("openid",),
)
KEYS = id_tokens.read_keys(
    msgspec.json.encode({"keys": [jwk("rsa-1", rsa_key()), jwk("ec-1", ec_key()), jwk("ps-1", rsa_key(), alg="PS256")]})
)


def honest(**changes: Any) -> dict[str, Any]:
    return claims_of(ISSUER, now_s=NOW_S, **changes)


def verify(token: str) -> Claims:
    return id_tokens.verify(token, KEYS, PROVIDER, now_s=NOW_S)


@pytest.mark.parametrize(
    ("algorithm", "kid"), [("RS256", "rsa-1"), ("PS256", "rsa-1"), ("ES256", "ec-1"), ("PS256", "ps-1")]
)
def test_an_honest_token_says_who_signs_in(algorithm: str, kid: str) -> None:
    assert verify(signed(honest(hd="example.org", name="Ada"), algorithm=algorithm, kid=kid)) == Claims(
        issuer=ISSUER,
        subject="subject-1",
        nonce="a nonce",
        email="ada@example.org",
        email_verified=True,
        hosted_domain="example.org",
        name="Ada",
    )


@pytest.mark.parametrize(
    ("said", "meant"), [(True, True), ("true", True), (False, False), ("false", False), ("True", False), (None, False)]
)
def test_apple_says_verified_as_text(said: Any, meant: bool) -> None:
    assert verify(signed(honest(email_verified=said))).email_verified is meant


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "ios-client"},
        {"aud": [AUDIENCE]},
        {"aud": AUDIENCE, "azp": "android-client"},
        {"aud": [AUDIENCE, "ios-client"], "azp": "ios-client"},
        {"iss": "issuer.test"},
        {"exp": NOW_S + 0.5},
        {"exp": NOW_S - LEEWAY_S + 1},
        {"iat": NOW_S + LEEWAY_S},
        {"email": None, "email_verified": None},
        {"nonce_supported": True, "at_hash": "x"},
    ],
)
def test_what_differs_among_honest_ones(changes: dict[str, Any]) -> None:
    claims = verify(signed(honest(**changes)))
    assert (claims.issuer, claims.subject) == (ISSUER, "subject-1")


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.test"},
        {"iss": ISSUER + "/"},
        {"iss": [ISSUER]},
        {"iss": None},
        {"aud": "other-client"},
        {"aud": [AUDIENCE, "other-client"], "azp": AUDIENCE},
        {"aud": [AUDIENCE, "ios-client"]},
        {"aud": []},
        {"aud": None},
        {"aud": {"0": AUDIENCE}},
        {"azp": "other-client"},
        {"azp": 7},
        {"exp": NOW_S - LEEWAY_S},
        {"exp": str(NOW_S + 600)},
        {"exp": None},
        {"exp": True},
        {"iat": NOW_S + LEEWAY_S + 1},
        {"iat": None},
        {"iat": "now"},
        {"nbf": NOW_S + LEEWAY_S + 1},
        {"nonce": None},
        {"nonce": 7},
        {"nonce": ["a nonce"]},
        {"sub": ""},
        {"sub": None},
        {"sub": 7},
        {"sub": "x" * 256},
        {"sub": "a\0b"},
        {"sub": "ä"},
        {"email": ["ada@example.org"]},
        {"email_verified": 1},
    ],
)
def test_a_claim_that_is_wrong(changes: dict[str, Any]) -> None:
    with pytest.raises(IdTokenInvalid):
        verify(signed(honest(**changes)))


@pytest.mark.parametrize(
    "times",
    ['"exp":1e400,"iat":1', '"exp":NaN,"iat":1', '"exp":9e300,"iat":-1e400', '"exp":' + "9" * 400 + ',"iat":1e308'],
)
def test_numbers_that_are_none(times: str) -> None:
    claims = msgspec.json.encode(honest(exp=None, iat=None)).decode().removesuffix("}") + "," + times + "}"
    with pytest.raises(IdTokenInvalid):
        verify(signed(claims.encode()))


def test_none_is_no_algorithm() -> None:
    for name in ("none", "None", "nOnE", "NONE", ""):
        with pytest.raises(IdTokenInvalid):
            verify(unsigned({"alg": name, "kid": "rsa-1", "typ": "JWT"}, honest()))
        with pytest.raises(IdTokenInvalid):
            verify(unsigned({"alg": name, "kid": "rsa-1", "typ": "JWT"}, honest(), "AAAA"))


@pytest.mark.parametrize("algorithm", ["HS256", "HS512", "RS512", "ES384", "EdDSA"])
def test_other_algorithms_are_refused_whatever_signed_it(algorithm: str) -> None:
    token = signed(honest(), algorithm="RS256").split(".")
    header = segment(msgspec.json.encode({"alg": algorithm, "kid": "rsa-1", "typ": "JWT"}))
    with pytest.raises(IdTokenInvalid):
        verify(".".join([header, *token[1:]]))


def test_a_public_key_is_no_secret() -> None:
    public = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for secret in (public, b"\n" + public, public.strip(), msgspec.json.encode(jwk("rsa-1", rsa_key()))):
        body = (
            f"{segment(msgspec.json.encode({'alg': 'HS256', 'kid': 'rsa-1'}))}.{segment(msgspec.json.encode(honest()))}"
        )
        token = f"{body}.{segment(hmac.digest(secret, body.encode(), 'sha256'))}"
        with pytest.raises(IdTokenInvalid):
            verify(token)


def test_the_key_decides_what_it_signs() -> None:
    with pytest.raises(IdTokenInvalid):
        verify(signed(honest(), algorithm="RS256", kid="ps-1"))
    with pytest.raises(IdTokenInvalid):
        verify(signed(honest(), algorithm="RS256", kid="ec-1"))
    with pytest.raises(IdTokenInvalid):
        verify(signed(honest(), algorithm="ES256", kid="rsa-1"))


def test_another_key_is_not_the_issuers() -> None:
    other = rsa.generate_private_key(65537, 2048)
    with pytest.raises(IdTokenInvalid):
        verify(signed(honest(), key=other))
    with pytest.raises(IdTokenInvalid):
        verify(signed(honest(), key=ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", kid="ec-1"))


def test_a_key_in_the_token_is_not_the_issuers() -> None:
    other = rsa.generate_private_key(65537, 2048)
    for header in (
        {"jwk": jwk("rsa-1", other)},
        {"jku": "https://attacker.test/jwks"},
        {"x5u": "https://attacker.test/certificate"},
        {"crit": ["exp"], "exp": 1},
        {"b64": False, "crit": ["b64"]},
    ):
        with pytest.raises(IdTokenInvalid):
            verify(signed(honest(), key=other, **header))
    with pytest.raises(IdTokenInvalid):
        verify(signed(honest(), jwk=jwk("rsa-1", rsa_key())))


def test_a_kid_is_asked_for_and_only_looked_up() -> None:
    with pytest.raises(IssuerKeyUnknown):
        verify(signed(honest(), kid=None))
    for kid in ("../../dev/null", "' OR 1=1", "rsa-2", "", "x" * 5000):
        with pytest.raises(IssuerKeyUnknown):
            verify(signed(honest(), kid=kid))
    for kind in (["rsa-1"], 1, False):
        with pytest.raises(IdTokenInvalid):
            verify(unsigned({"alg": "RS256", "kid": kind, "typ": "JWT"}, honest(), "AAAA"))


def test_where_there_is_one_key_a_token_need_not_name_it() -> None:
    alone = {"rsa-1": KEYS["rsa-1"]}
    unnamed = signed(honest(), kid=None)
    assert id_tokens.verify(unnamed, alone, PROVIDER, now_s=NOW_S).subject == "subject-1"
    with pytest.raises(IssuerKeyUnknown):
        id_tokens.verify(unnamed, {"ec-1": KEYS["rsa-1"], "rsa-1": KEYS["rsa-1"]}, PROVIDER, now_s=NOW_S)
    with pytest.raises(IssuerKeyUnknown):
        id_tokens.verify(signed(honest(), kid=None, key=rsa_key("new")), alone, PROVIDER, now_s=NOW_S)
    with pytest.raises(IdTokenInvalid):
        id_tokens.verify(unnamed, {"ec-1": KEYS["ec-1"]}, PROVIDER, now_s=NOW_S)


@pytest.mark.parametrize("kind", ["at+jwt", "logout+jwt", "secevent+jwt", "JWE"])
def test_a_token_of_another_kind_is_no_id_token(kind: str) -> None:
    with pytest.raises(IdTokenInvalid):
        verify(signed(honest(), typ=kind))


def test_the_kind_may_be_left_out() -> None:
    token = signed(honest()).split(".")
    header = segment(msgspec.json.encode({"alg": "RS256", "kid": "rsa-1"}))
    body = f"{header}.{token[1]}"
    signature = jwt.get_algorithm_by_name("RS256").sign(body.encode(), rsa_key())
    assert verify(f"{body}.{segment(signature)}").subject == "subject-1"


def test_what_is_no_token_at_all() -> None:
    good = signed(honest())
    head, body, signature = good.split(".")
    for token in (
        "",
        "...",
        "a.b",
        good + ".x",
        f"{head}.{body}.",
        f"{head}..{signature}",
        f".{body}.{signature}",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{body[:-2]}.{signature}",
        good + "é",
        "x" * (MAX_TOKEN_BYTES + 1),
        msgspec.json.encode({"payload": body, "signatures": [{"protected": head, "signature": signature}]}).decode(),
        f"{segment(b'[' * 10_000)}.{body}.{signature}",
        f"{head}.{segment(b'[' * 10_000)}.{signature}",
    ):
        with pytest.raises(IdTokenInvalid):
            verify(token)


@given(st.integers(0, 3), st.integers(0, 2000), st.text("ABCDEFabcdef0123456789-_.=~ ", max_size=3))
def test_no_change_of_a_token_holds(cut: int, place: int, insertion: str) -> None:
    good = signed(honest())
    place %= len(good)
    altered = good[:place] + insertion + good[place + cut :]
    # The last character's slack bits, and paddings, decode to the same bytes or are refused; bytes decide.
    if altered == good or altered[:-1] == good[:-1]:
        return
    with pytest.raises(IdTokenInvalid):
        verify(altered)


def test_what_a_set_of_keys_holds_that_we_cannot_use_is_passed_over() -> None:
    keys = [
        jwk("short", rsa.generate_private_key(65537, 1024)),
        jwk("encrypts", rsa_key(), use="enc"),
        jwk("other", rsa_key(), alg="RS512"),
        {"kty": "oct", "kid": "secret", "k": "AAAA"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": "AAAA"},
        {**jwk("curve", ec_key()), "crv": "P-384"},
        {**jwk("off", ec_key()), "y": segment(b"\1" * 32)},
        {**jwk("slow", rsa_key()), "e": segment(b"\1" * 64)},
        {**jwk("even", rsa_key()), "e": segment(b"\2")},
        {name: value for name, value in jwk("", rsa_key()).items() if name != "kid"},
        {"kid": 7},
        [],
        "key",
        None,
        jwk("good", rsa_key(), use="sig", alg="RS256"),
        jwk("good", ec_key()),
    ]
    found = id_tokens.read_keys(msgspec.json.encode({"keys": keys}))
    assert {kid: sorted(key.algorithms) for kid, key in found.items()} == {"good": ["RS256"]}


@pytest.mark.parametrize(
    "document", [b"", b"[]", b"null", b'{"keys":{}}', b'{"keys":', b"[" * 100_000, b"\xff", b'{"jwks":[]}']
)
def test_what_is_no_set_of_keys(document: bytes) -> None:
    with pytest.raises(ValueError, match="JWK Set"):
        id_tokens.read_keys(document)


def test_a_set_of_keys_is_bounded() -> None:
    keys = [jwk(f"{n}", ec_key()) for n in range(MAX_KEYS + 1)]
    assert len(id_tokens.read_keys(msgspec.json.encode({"keys": keys[1:]}))) == MAX_KEYS
    with pytest.raises(ValueError, match=str(MAX_KEYS)):
        id_tokens.read_keys(msgspec.json.encode({"keys": keys}))


def test_padding_is_no_part_of_a_segment() -> None:
    head, body, signature = signed(honest()).split(".")
    padded = urlsafe_b64encode(msgspec.json.encode(honest())).decode()
    assert padded.endswith("=") or padded == body
    with pytest.raises(IdTokenInvalid):
        verify(f"{head}.{body}=.{signature}")
