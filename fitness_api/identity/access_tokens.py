"""Access tokens: JWTs after RFC 9068, signed with ES256. Ours only: whatever we would not have minted is refused.

PyJWT checks the signature; the rest is checked here, because it reads the clock by itself, does not look at `typ`, and
takes a numeric string for `exp`. Source: RFC 9068, RFC 8725.
"""

import binascii
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Mapping
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import DecodeError, Struct, json

from fitness_api.identity.errors import AccessTokenExpired, AccessTokenInvalid, SigningKeyUnknown
from fitness_api.identity.signing_keys import SigningKey

LIFETIME_S: Final = 600  # what a stolen token is worth where it is verified without asking us
MAX_TOKEN_BYTES: Final = 8 * 1024  # ours have some 700; a 20 MB header keeps the library busy for 1.7 s
MAX_AHEAD_S: Final = 60  # how far the clocks of two of our processes may be apart

_ALGORITHM: Final = "ES256"
_TYPES: Final = frozenset({"at+jwt", "application/at+jwt"})  # RFC 9068 section 4, compared without case


class Principal(Struct, frozen=True, kw_only=True):
    """Who calls, as the token says: a user, or a client for itself, whose id is then the user id. `generation` is the refresh counter with which the token was minted.

    methods: how the user proved who they are (RFC 8176). key_thumbprint: of the key that the caller has to prove (RFC 9449).
    """

    user_id: str
    session_id: str
    client_id: str
    scopes: frozenset[str]
    generation: int
    expires_at_s: int
    authenticated_at_s: int
    methods: tuple[str, ...] = ()
    key_thumbprint: str | None = None


class _Header(Struct, forbid_unknown_fields=True):
    """Nothing else may stand there: `jwk`, `jku`, `x5u`, `crit` or `b64` would not be ours."""

    alg: str
    typ: str
    kid: str


class _Confirmation(Struct):
    """RFC 9449 section 6.1."""

    jkt: str


class _Claims(Struct, omit_defaults=True):
    iss: str
    aud: str
    sub: str
    client_id: str
    jti: str
    iat: int
    exp: int
    scope: str
    sid: str
    gen: int
    auth_time: int
    amr: tuple[str, ...] = ()
    cnf: _Confirmation | None = None


_jws: Final = jwt.PyJWS(algorithms=[_ALGORITHM])
_header: Final = json.Decoder(_Header)
_claims: Final = json.Decoder(_Claims)


def mint(
    key: SigningKey,
    *,
    issuer: str,
    audience: str,
    user_id: str,
    session_id: str,
    client_id: str,
    scopes: Iterable[str],
    generation: int,
    authenticated_at_s: int,
    methods: tuple[str, ...] = (),
    key_thumbprint: str | None = None,
    now_s: int,
    token_id: str,
) -> str:
    claims = _Claims(
        iss=issuer,
        aud=audience,
        sub=user_id,
        client_id=client_id,
        jti=token_id,
        iat=now_s,
        exp=now_s + LIFETIME_S,
        scope=" ".join(sorted(scopes)),
        sid=session_id,
        gen=generation,
        auth_time=authenticated_at_s,
        amr=methods,
        cnf=None if key_thumbprint is None else _Confirmation(key_thumbprint),
    )
    headers = {"typ": "at+jwt", "kid": key.kid}
    return _jws.encode(json.encode(claims), key.private, algorithm=_ALGORITHM, headers=headers)


def verify(
    token: str, keys: Mapping[str, ec.EllipticCurvePublicKey], now_s: int, *, issuer: str, audience: str
) -> Principal:
    """Raises AccessTokenInvalid, and of these SigningKeyUnknown if only its key is not among `keys`, AccessTokenExpired if
    nothing but its time is wrong with it.
    """
    if len(token) > MAX_TOKEN_BYTES or not token.isascii():
        raise AccessTokenInvalid("This is not an access token.")
    key = _key(token, keys)
    try:
        claims = _claims.decode(_jws.decode(token, key, algorithms=[_ALGORITHM]))
    except (jwt.PyJWTError, DecodeError, UnicodeError, RecursionError):
        raise AccessTokenInvalid("This is not an access token, or it was altered.") from None
    if claims.iss != issuer or claims.aud != audience:
        raise AccessTokenInvalid("The access token is another service's.")
    if claims.iat > now_s + MAX_AHEAD_S:
        raise AccessTokenInvalid("The access token is from the future.")
    if now_s >= claims.exp:
        raise AccessTokenExpired(claims.sub)
    return Principal(
        user_id=claims.sub,
        session_id=claims.sid,
        client_id=claims.client_id,
        scopes=frozenset(claims.scope.split()),
        generation=claims.gen,
        expires_at_s=claims.exp,
        authenticated_at_s=claims.auth_time,
        methods=claims.amr,
        key_thumbprint=None if claims.cnf is None else claims.cnf.jkt,
    )


def _key(token: str, keys: Mapping[str, ec.EllipticCurvePublicKey]) -> ec.EllipticCurvePublicKey:
    encoded, _, _ = token.partition(".")
    try:
        header = _header.decode(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (binascii.Error, ValueError, DecodeError, RecursionError):
        raise AccessTokenInvalid("This is not an access token.") from None
    if header.alg != _ALGORITHM or header.typ.lower() not in _TYPES:
        raise AccessTokenInvalid("This is not an access token.")
    if header.kid not in keys:
        raise SigningKeyUnknown
    return keys[header.kid]
