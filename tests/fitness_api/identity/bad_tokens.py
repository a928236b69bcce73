"""Access tokens that must not hold, each wrong in one thing. The CVEs are those of JWT libraries; the probes are ours."""

import base64
import json
from collections.abc import Callable
from hmac import digest
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fitness_api.identity.signing_keys import SigningKey

Json = dict[str, Any]

OPTIONAL = {"amr", "cnf"}


def segment(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def hmac(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda message: digest(secret, message, "sha256")


def es256(key: SigningKey) -> Callable[[bytes], bytes]:
    return lambda message: jwt.get_algorithm_by_name("ES256").sign(message, key.private)


def signed(header: object, claims: object, sign: Callable[[bytes], bytes]) -> str:
    head = f"{segment(header)}.{segment(claims)}"
    return f"{head}.{segment(sign(head.encode()))}"


def refused(key: SigningKey, honest: Json, *, now_s: int) -> dict[str, str]:
    """Return what to refuse by what is wrong with it. `key` signs, and `honest` are the claims of a token that holds."""
    other = SigningKey("another", ec.generate_private_key(ec.SECP256R1()))
    public = key.private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    numbers = public.public_numbers()
    jwk: Json = {"kty": "EC", "crv": "P-256", "kid": key.kid} | {
        axis: segment(getattr(numbers, axis).to_bytes(32)) for axis in "xy"
    }
    usual: Json = {"alg": "ES256", "typ": "at+jwt", "kid": key.kid}
    exp, issuer = honest["exp"], honest["iss"]

    ours = es256(key)

    def made(header: object = usual, claims: object = honest, sign: Callable[[bytes], bytes] = ours) -> str:
        return signed(header, claims, sign)

    good = made()
    return {
        "empty": "",
        "one segment": "abc",
        "dots": "...",
        "JSON serialisation": json.dumps({"payload": segment(honest), "protected": segment(usual), "signature": ""}),
        "JWE": ".".join(
            [segment({"alg": "dir", "enc": "A256GCM", "typ": "at+jwt", "kid": key.kid}), "", "a", "b", "c"]
        ),
        "not ASCII": good + "é",
        "lone surrogate": good + "\ud800",
        "line end": good + "\n",
        "trailing junk": good + "!!",
        "no signature": good.rpartition(".")[0] + ".",
        "signature of zeros": made(sign=lambda _: bytes(64)),  # CVE-2022-21449
        "signature in DER": made(sign=lambda message: key.private.sign(message, ec.ECDSA(SHA256()))),
        "another's key under our kid": made(sign=es256(other)),
        "alg none": made({**usual, "alg": "none"}, sign=lambda _: b""),
        "alg None": made({**usual, "alg": "None"}, sign=lambda _: b""),
        "alg nOnE": made({**usual, "alg": "nOnE"}, sign=lambda _: b""),
        "alg empty": made({**usual, "alg": ""}, sign=lambda _: b""),
        "alg missing": made({"typ": "at+jwt", "kid": key.kid}),
        "alg null": made({**usual, "alg": None}),
        "alg list": made({**usual, "alg": ["ES256"]}),
        "alg lower case": made({**usual, "alg": "es256"}),
        "HMAC with PEM": made({**usual, "alg": "HS256"}, sign=hmac(pem)),  # CVE-2022-29217
        "HMAC with PEM, no last line end": made({**usual, "alg": "HS256"}, sign=hmac(pem.strip())),
        "HMAC with PEM, prefixed": made({**usual, "alg": "HS256"}, sign=hmac(b"\n" + pem)),
        "HMAC with JWK": made({**usual, "alg": "HS256"}, sign=hmac(json.dumps(jwk).encode())),  # GHSA-xgmm-8j9v-c9wx
        "HMAC with nothing": made({**usual, "alg": "HS256"}, sign=hmac(b"")),
        "ES256 that is HMAC": made(sign=hmac(pem)),
        "ES384": made({**usual, "alg": "ES384"}),
        "RS256": made({**usual, "alg": "RS256"}),
        "embedded jwk": made({**usual, "jwk": jwk}),  # CVE-2026-27962
        "embedded jwk of a thief": made({**usual, "jwk": {**jwk, "x": jwk["y"]}}, sign=es256(other)),
        "jku": made({**usual, "jku": "https://evil.example/jwks.json"}),
        "x5u": made({**usual, "x5u": "file:///etc/passwd"}),
        "x5c": made({**usual, "x5c": ["MIIB"]}),
        "crit": made({**usual, "crit": ["exp"], "exp": 1}),  # CVE-2025-59420
        "crit unknown": made({**usual, "crit": ["x"], "x": 1}),
        "b64 false": made({**usual, "crit": ["b64"], "b64": False}),
        "zip": made({**usual, "zip": "DEF"}),
        "typ JWT": made({**usual, "typ": "JWT"}),
        "typ missing": made({"alg": "ES256", "kid": key.kid}),
        "typ of an ID token": made({**usual, "typ": "id+jwt"}),
        "typ logout": made({**usual, "typ": "logout+jwt"}),
        "typ number": made({**usual, "typ": 1}),
        "kid missing": made({"alg": "ES256", "typ": "at+jwt"}),
        "kid null": made({**usual, "kid": None}),
        "kid list": made({**usual, "kid": [key.kid]}),
        "kid path": made({**usual, "kid": "../../../dev/null"}),
        "kid query": made({**usual, "kid": f"{key.kid}' OR '1'='1"}),
        "kid operator": made({**usual, "kid": {"$ne": ""}}),
        "header of a list": made([usual]),
        "header nested": made(b'{"alg":' + b"[" * 3000 + b"]" * 3000 + b"}"),
        "header not UTF-8": made(b'{"alg":"ES256","typ":"at+jwt","kid":"\xff"}'),
        "claims of a list": made(claims=[honest]),
        "claims not JSON": made(claims=b"exp=1"),
        "claims nested": made(claims=b'{"x":' + b"[" * 2500 + b"]" * 2500 + b"}"),
        "exp as text": made(claims={**honest, "exp": str(exp)}),
        "exp as fraction": made(claims={**honest, "exp": exp + 0.5}),
        "exp NaN": made(claims={**honest, "exp": float("nan")}),
        "exp infinite": made(claims=json.dumps(honest).replace(str(exp), "1e400").encode()),
        "exp true": made(claims={**honest, "exp": True}),
        "exp null": made(claims={**honest, "exp": None}),
        "exp negative": made(claims={**honest, "exp": -1}),
        "exp now": made(claims={**honest, "exp": now_s}),
        "iat to come": made(claims={**honest, "iat": now_s + 120}),
        "iss another": made(claims={**honest, "iss": "https://evil.example"}),
        "iss with slash": made(claims={**honest, "iss": issuer + "/"}),
        "aud another": made(claims={**honest, "aud": "https://other.example"}),
        "aud list": made(claims={**honest, "aud": [issuer]}),
        "sub number": made(claims={**honest, "sub": 1}),
        "scope list": made(claims={**honest, "scope": ["admin"]}),
        **{
            f"{claim} missing": made(claims={k: v for k, v in honest.items() if k != claim})
            for claim in honest.keys() - OPTIONAL
        },
    }
