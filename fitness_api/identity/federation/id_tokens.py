"""ID tokens of other issuers: read, and checked against the issuer's keys and what we expect of it.

PyJWT checks the signature; the rest is checked here, because it reads the clock by itself and does not look at `typ`.
Source: OpenID Connect Core 1.0 section 3.1.3.7, RFC 8725.
"""

import binascii
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any, Final, Literal

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from msgspec import DecodeError, Raw, Struct, ValidationError, convert, json

from fitness_api.identity.errors import IdTokenInvalid, IssuerKeyUnknown
from fitness_api.identity.federation.providers import Provider

MAX_TOKEN_BYTES: Final = 16 * 1024  # Google's and Apple's have some 1 KB; a company's, with its groups, some more
MAX_KEYS: Final = 64  # of one issuer; Google has 2 and Apple 5
RSA_BITS: Final = (2048, 8192)  # RFC 7518 section 3.3 asks for the first; verifying with the second takes 0.3 ms
MAX_EXPONENT_BITS: Final = 32  # everybody's is 65537; a large one makes verifying slow
LEEWAY_S: Final = 60  # how far the issuer's clock may be off

MAX_TIME_S: Final = 2**53  # beyond that a number of seconds is no time, and no float either

# OpenID Core section 2: no longer than 255 ASCII characters.
MAX_SUBJECT: Final = 255

Algorithm = Literal["RS256", "PS256", "ES256"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = ("RS256", "PS256", "ES256")
_BY_KEY_TYPE: Final[Mapping[str, frozenset[Algorithm]]] = {
    "RSA": frozenset({"RS256", "PS256"}),
    "EC": frozenset({"ES256"}),
}

# A token that brings its own key, or asks for rules that we don't know, is not what these issuers make.
_UNWELCOME: Final = frozenset({"crit", "b64", "jwk", "jku", "x5u", "zip", "enc"})


class IssuerKey(Struct, frozen=True):
    """One of an issuer's public keys, and what it may sign with."""

    public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    algorithms: frozenset[Algorithm]


class Presented(Struct, frozen=True):
    """What a token says of itself; nothing of it is proven. kid: None where its issuer has one key, and does not name it."""

    issuer: str
    kid: str | None
    algorithm: Algorithm


class Claims(Struct, frozen=True, kw_only=True):
    """What an issuer vouches for.

    issuer: as our settings write it. email_verified: as the issuer says; whether that is worth something is the provider's.
    """

    issuer: str
    subject: str
    nonce: str
    email: str | None
    email_verified: bool
    hosted_domain: str | None
    name: str | None


class _Header(Struct):
    alg: str
    kid: str | None = None
    typ: str | None = None


class _Claims(Struct):
    iss: str
    sub: str
    aud: str | list[str]
    exp: int | float
    iat: int | float
    nonce: str
    nbf: int | float | None = None
    azp: str | None = None
    email: str | None = None
    email_verified: bool | str | None = None  # Apple: "true"
    hd: str | None = None
    name: str | None = None


class _Issuer(Struct):
    iss: str


class _Key(Struct):
    kty: str
    kid: str | None = None
    use: str | None = None
    alg: str | None = None
    crv: str | None = None
    n: str = ""
    e: str = ""
    x: str = ""
    y: str = ""


class _KeySet(Struct):
    keys: list[Raw]


_jws: Final = jwt.PyJWS(algorithms=list(ALGORITHMS))
_header: Final = json.Decoder(_Header)
_header_names: Final = json.Decoder(dict[str, Any])
_claims: Final = json.Decoder(_Claims)
_issuer: Final = json.Decoder(_Issuer)
_key_set: Final = json.Decoder(_KeySet)
_key: Final = json.Decoder(_Key)


def read(token: str) -> Presented:
    """Say whose the token claims to be. Raises IdTokenInvalid if it cannot be anybody's."""
    if len(token) > MAX_TOKEN_BYTES or not token.isascii() or token.count(".") != 2:
        raise IdTokenInvalid("This is not an ID token.")
    encoded_header, encoded_claims, _ = token.split(".")
    try:
        raw = _bytes(encoded_header)
        header = _header.decode(raw)
        names = _header_names.decode(raw)
        issuer = _issuer.decode(_bytes(encoded_claims)).iss
    except (binascii.Error, ValueError, DecodeError, RecursionError):
        raise IdTokenInvalid("This is not an ID token.") from None
    if (header.typ or "JWT").upper() != "JWT" or not _UNWELCOME.isdisjoint(names):
        raise IdTokenInvalid("This is not an ID token.")
    try:
        algorithm = convert(header.alg, Algorithm)
    except ValidationError:
        raise IdTokenInvalid(f"ID tokens are signed with {', '.join(ALGORITHMS)} here.") from None
    return Presented(issuer, header.kid, algorithm)


def verify(token: str, keys: Mapping[str, IssuerKey], provider: Provider, *, now_s: int) -> Claims:
    """Raises IdTokenInvalid, and of these IssuerKeyUnknown if its key is not among `keys`, as far as can be told.

    The nonce is there, and is the caller's to check.
    """
    presented = read(token)
    key = key_for(presented.kid, keys)
    if key is None:
        raise IssuerKeyUnknown
    if presented.algorithm not in key.algorithms:
        raise IdTokenInvalid("The ID token names a key of another algorithm.")
    try:
        claims = _claims.decode(_jws.decode(token, key.public, algorithms=[presented.algorithm]))
    except jwt.InvalidSignatureError:
        # One that names no key may be of a newer one.
        raise IssuerKeyUnknown if presented.kid is None else IdTokenInvalid("The ID token was altered.") from None
    except (jwt.PyJWTError, DecodeError, UnicodeError, RecursionError, OverflowError):
        raise IdTokenInvalid("The ID token was altered, or lacks what we need of it.") from None
    _check_times(claims, now_s)
    if not provider.is_issuer(claims.iss):
        raise IdTokenInvalid("The ID token is another issuer's.")
    _check_audience(claims, provider)
    subject = claims.sub
    if not 1 <= len(subject) <= MAX_SUBJECT or not subject.isascii() or not subject.isprintable():
        raise IdTokenInvalid("The ID token's subject cannot be.")
    return Claims(
        issuer=provider.issuer,
        subject=subject,
        nonce=claims.nonce,
        email=claims.email,
        email_verified=claims.email_verified in (True, "true"),
        hosted_domain=claims.hd,
        name=claims.name,
    )


def key_for(kid: str | None, keys: Mapping[str, IssuerKey]) -> IssuerKey | None:
    """OpenID Connect Core 1.0 section 10.1: only where there are several keys has the token to name its own."""
    if kid is not None:
        return keys.get(kid)
    return next(iter(keys.values())) if len(keys) == 1 else None


def read_keys(document: bytes) -> dict[str, IssuerKey]:
    """Return what of a JWK Set (RFC 7517) can sign ID tokens, by kid; what we cannot use is passed over.

    Raises ValueError if it is not such a set.
    """
    try:
        entries = _key_set.decode(document).keys
    except (DecodeError, UnicodeError, RecursionError):
        raise ValueError("This is not a JWK Set.") from None
    if len(entries) > MAX_KEYS:
        raise ValueError(f"The JWK Set has more than {MAX_KEYS} keys.")
    found: dict[str, IssuerKey] = {}
    for entry in entries:
        try:
            key = _key.decode(entry)
            usable = _usable(key)
        except (DecodeError, UnicodeError, RecursionError, ValueError, binascii.Error, UnsupportedAlgorithm):
            continue
        if usable is not None and key.kid is not None:
            found.setdefault(key.kid, usable)
    return found


def _check_times(claims: _Claims, now_s: int) -> None:
    times = [claims.exp, claims.iat, *([] if claims.nbf is None else [claims.nbf])]
    if not all(0 <= time <= MAX_TIME_S for time in times):
        raise IdTokenInvalid("The ID token's times cannot be.")
    if now_s >= claims.exp + LEEWAY_S:
        raise IdTokenInvalid("The ID token has expired.")
    if max(claims.iat, claims.nbf or 0) > now_s + LEEWAY_S:
        raise IdTokenInvalid("The ID token is from the future.")


def _check_audience(claims: _Claims, provider: Provider) -> None:
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if not audiences or not provider.audiences.issuperset(audiences):
        raise IdTokenInvalid("The ID token was made for another app.")
    # Which of several it was made for is in `azp`, and Google names the Android app there.
    if (claims.azp is None and len(audiences) > 1) or (claims.azp is not None and claims.azp not in provider.audiences):
        raise IdTokenInvalid("The ID token was made for another app.")


def _usable(key: _Key) -> IssuerKey | None:
    if key.use not in (None, "sig") or key.kty not in _BY_KEY_TYPE:
        return None
    algorithms = _BY_KEY_TYPE[key.kty]
    if key.alg is not None:
        algorithms = frozenset(algorithm for algorithm in algorithms if algorithm == key.alg)
    if not algorithms:
        return None
    if key.kty == "RSA":
        modulus, exponent = _number(key.n), _number(key.e)
        if not RSA_BITS[0] <= modulus.bit_length() <= RSA_BITS[1] or exponent.bit_length() > MAX_EXPONENT_BITS:
            return None
        return IssuerKey(rsa.RSAPublicNumbers(exponent, modulus).public_key(), algorithms)
    if key.crv != "P-256":
        return None
    point = ec.EllipticCurvePublicNumbers(_number(key.x), _number(key.y), ec.SECP256R1())
    return IssuerKey(point.public_key(), algorithms)


def _number(encoded: str) -> int:
    return int.from_bytes(_bytes(encoded), "big")


def _bytes(encoded: str) -> bytes:
    return urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
