"""Every check of RFC 9449 section 4.3, each with a proof that fails only there."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.identity import dpop
from fitness_api.identity.dpop import MAX_AGE_S, MAX_AHEAD_S, NONCE_PERIOD_S, Asked, Proof
from fitness_api.identity.errors import DpopNonceNeeded, DpopProofInvalid
from tests.fitness_api.identity.proofs import Json, Key, encoded

NOW_S = 1_800_000_000
URL = "https://api.example.org/v1/me"
TOKEN = "an.access.token"
NONCE_KEY = dpop.derive_key(b"m" * 32)
KEY = Key()
ED = Key("EdDSA")


def check(
    *proofs: str, method: str = "GET", url: str = URL, token: str | None = TOKEN, needs_nonce: bool = False
) -> Proof:
    asked = Asked(method=method, url=url, proofs=proofs)
    return dpop.check(asked, NONCE_KEY, NOW_S, access_token=token, needs_nonce=needs_nonce)


def proof(key: Key = KEY, **changes: Any) -> str:
    given: Json = {"method": "GET", "url": URL, "at_s": NOW_S, "access_token": TOKEN, **changes}
    return key.proof(given.pop("method"), given.pop("url"), **given)


@pytest.mark.parametrize("key", [KEY, ED], ids=["ES256", "EdDSA"])
def test_a_proof_names_its_key(key: Key) -> None:
    assert check(proof(key)).thumbprint == key.thumbprint


def test_the_thumbprint_is_rfc_7638_s() -> None:
    # RFC 8037 appendix A.3
    ed = dpop._Key(kty="OKP", crv="Ed25519", x="11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    assert dpop.thumbprint_of(ed) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    # RFC 9449 section 6.1, the key of its example proofs
    p256 = dpop._Key(
        kty="EC",
        crv="P-256",
        x="l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
        y="9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
    )
    assert dpop.thumbprint_of(p256) == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


def test_the_proof_of_rfc_9449_s_example_holds() -> None:
    # Section 4.1; its `iat` is of 2019.
    example = (
        "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0Rs"
        "cEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2"
        "In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2Vu"
        "IiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT"
        "3Lg"
    )
    asked = Asked(method="POST", url="https://server.example.com/token", proofs=[example])
    assert dpop.check(asked, NONCE_KEY, 1562262616, access_token=None, needs_nonce=False).thumbprint == (
        "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
    )


def test_what_libraries_add_does_no_harm() -> None:
    jwk = {**KEY.jwk, "key_ops": ["verify"], "ext": True, "kid": "1", "use": "sig", "alg": "ES256"}
    header = {"jwk": jwk, "kid": "1", "jku": "https://evil.example/", "typ": "DPoP+JWT"}
    assert check(proof(header=header)).thumbprint == KEY.thumbprint


D = encoded(KEY.private.private_numbers().private_value.to_bytes(32))
REFUSED: dict[str, tuple[str, ...]] = {
    "none": (),
    "two": (proof(), proof()),
    "empty": ("",),
    "no JWT": ("abc",),
    "not ASCII": (proof() + "é",),
    "a surrogate": (proof() + "\ud800",),
    "cut off": (proof()[:-4],),
    "too long": (proof(claims={"x": "x" * dpop.MAX_PROOF_BYTES}),),
    "no signature": (proof().rpartition(".")[0] + ".",),
    "another's signature": (proof(header={"jwk": Key().jwk}),),
    "alg none": (proof(header={"alg": "none"}),),
    "alg HS256": (proof(header={"alg": "HS256"}),),
    "alg of the other key": (proof(header={"alg": "EdDSA"}),),
    "alg missing": (proof(header={"alg": None}),),
    "typ JWT": (proof(header={"typ": "JWT"}),),
    "typ of an access token": (proof(header={"typ": "at+jwt"}),),
    "typ missing": (proof(header={"typ": None}),),
    "crit": (proof(header={"crit": ["exp"]}),),
    "b64": (proof(header={"b64": False, "crit": ["b64"]}),),
    "no key": (proof(header={"jwk": None}),),
    "a private key": (proof(header={"jwk": {**KEY.jwk, "d": D}}),),
    "a private key of null": (proof(header={"jwk": {**KEY.jwk, "d": None}}),),
    "a symmetric key": (proof(header={"jwk": {"kty": "oct", "k": "c2VjcmV0"}}),),
    "RSA": (proof(header={"jwk": {"kty": "RSA", "n": "AQAB", "e": "AQAB"}}),),
    "P-384": (proof(header={"jwk": {**KEY.jwk, "crv": "P-384"}}),),
    "off the curve": (proof(header={"jwk": {**KEY.jwk, "x": encoded(bytes(31) + b"\1")}}),),
    "a short coordinate": (proof(header={"jwk": {**KEY.jwk, "x": encoded(bytes(31))}}),),
    "y missing": (proof(header={"jwk": {name: KEY.jwk[name] for name in ("kty", "crv", "x")}}),),
    "padded coordinate": (proof(header={"jwk": {**KEY.jwk, "x": KEY.jwk["x"] + "="}}),),
    "another method": (proof(method="POST"),),
    "method in lower case": (proof(method="get"),),
    "another path": (proof(url=URL + "/"),),
    "path in another case": (proof(url=URL.replace("me", "ME")),),
    "another host": (proof(url=URL.replace("org", "com")),),
    "another scheme": (proof(url=URL.replace("https", "http")),),
    "another port": (proof(url=URL.replace(".org", ".org:444")),),
    "a user in the URL": (proof(url=URL.replace("api", "ada@api")),),
    "no URL": (proof(url="/v1/me"),),
    "a URL of bad parts": (proof(url="https://[/v1/me"),),
    "a URL of a bad port": (proof(url="https://api.example.org:x/v1/me"),),
    "no htu": (proof(claims={"htu": None}),),
    "no htm": (proof(claims={"htm": None}),),
    "no jti": (proof(claims={"jti": None}),),
    "an empty jti": (proof(claims={"jti": ""}),),
    "a long jti": (proof(claims={"jti": "j" * (dpop.MAX_JTI + 1)}),),
    "jti of a number": (proof(claims={"jti": 1}),),
    "no iat": (proof(claims={"iat": None}),),
    "iat as text": (proof(claims={"iat": str(NOW_S)}),),
    "no ath": (proof(access_token=None),),
    "ath of another token": (proof(access_token="another"),),
    "ath of a number": (proof(claims={"ath": 1}),),
    "nonce of a number": (proof(claims={"nonce": 1}),),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(DpopProofInvalid) as refused:
        check(*REFUSED[name])
    assert not isinstance(refused.value, DpopNonceNeeded)


@pytest.mark.parametrize("off_s", [-MAX_AHEAD_S, 0, MAX_AGE_S])
def test_a_clock_may_be_a_minute_off(off_s: int) -> None:
    assert check(proof(at_s=NOW_S - off_s))


@pytest.mark.parametrize("off_s", [-3600, -MAX_AHEAD_S - 1, MAX_AGE_S + 1, 10**9])
def test_one_that_is_further_off_gets_a_nonce_and_is_served_with_it(off_s: int) -> None:
    with pytest.raises(DpopNonceNeeded) as asked:
        check(proof(at_s=NOW_S - off_s))
    assert check(proof(at_s=NOW_S - off_s, nonce=asked.value.nonce))


def test_a_nonce_may_be_asked_for() -> None:
    with pytest.raises(DpopNonceNeeded) as asked:
        check(proof(access_token=None), token=None, needs_nonce=True)
    assert check(proof(access_token=None, nonce=asked.value.nonce), token=None, needs_nonce=True)


@given(st.integers(-10 * NONCE_PERIOD_S, 10 * NONCE_PERIOD_S))
def test_a_nonce_holds_in_its_period_and_beside_it(after_s: int) -> None:
    made = proof(nonce=dpop.nonce(NONCE_KEY, NOW_S - after_s))
    apart = NOW_S // NONCE_PERIOD_S - (NOW_S - after_s) // NONCE_PERIOD_S
    if abs(apart) <= 1:
        assert check(made)
    else:
        with pytest.raises(DpopNonceNeeded):
            check(made)


@given(st.text(max_size=40))
def test_nobody_guesses_a_nonce(guess: str) -> None:
    with pytest.raises(DpopNonceNeeded):
        check(proof(nonce=guess))


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_no_proof_outlives_the_memory_of_it(made_s: int, apart_s: int) -> None:
    """Whenever a proof is accepted twice, the second time is within what is remembered of the first."""
    first, second = NOW_S, NOW_S + apart_s
    accepted = []
    for with_nonce in (True, False):
        made = proof(at_s=NOW_S + made_s % 200 - 100, nonce=dpop.nonce(NONCE_KEY, NOW_S) if with_nonce else None)
        asked = Asked(method="GET", url=URL, proofs=[made])
        try:
            for now_s in (first, second):
                dpop.check(asked, NONCE_KEY, now_s, access_token=TOKEN, needs_nonce=False)
            accepted.append(with_nonce)
        except DpopNonceNeeded:
            continue
    assert not accepted or apart_s < dpop.REMEMBERED_S


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (URL, URL + "?units=metric#top"),
        (URL + "?a=b", URL),
        (URL, "HTTPS://API.example.org:443/v1/me"),
        (URL, "wss://api.example.org/v1/me"),
        ("https://api.example.org/a%7Eb%2fc", "https://api.example.org/a~b%2Fc"),
        ("http://127.0.0.1:80", "http://127.0.0.1/"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
    ],
)
def test_a_url_may_be_spelled_in_several_ways(one: str, other: str) -> None:
    assert check(proof(url=other), url=one)


def test_two_proofs_have_one_mark_only_if_key_and_jti_are_the_same() -> None:
    one = check(proof(claims={"jti": "1"})).mark
    assert check(proof(claims={"jti": "1"}, at_s=NOW_S + 1)).mark == one
    assert check(proof(claims={"jti": "2"})).mark != one
    assert check(proof(ED, claims={"jti": "1"})).mark != one
