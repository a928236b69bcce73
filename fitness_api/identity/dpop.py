"""DPoP proofs (RFC 9449): a client shows with each request that it holds the key that its tokens are bound to.

A proof is a small JWT that the client signs for one request. Its time is judged by the server's own nonce where it has one,
else by its `iat`: so a phone whose clock is wrong is asked for a nonce, and not refused for ever. Nonces are made from a key
and the time, and are stored nowhere.
"""

import binascii
import hmac
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import UNSET, DecodeError, Struct, json

from fitness_api.identity.errors import DpopNonceNeeded, DpopProofInvalid

ALGORITHMS: Final = ("ES256", "EdDSA")  # what phones' key stores sign with, and what software keys like
MAX_PROOF_BYTES: Final = 4 * 1024  # they have some 600
MAX_JTI: Final = 256  # a UUID has 36; ours to hash, the client's to choose

# Clocks that are set over the network are seconds apart. Whoever is further off is asked for a nonce.
MAX_AGE_S: Final = 60
MAX_AHEAD_S: Final = 60
# A nonce holds in its period, in the next, and in the one before, where another process of ours is ahead.
NONCE_PERIOD_S: Final = 120
# As long as any proof could be accepted again, so long its `jti` has to be known.
REMEMBERED_S: Final = 3 * NONCE_PERIOD_S

_TYPES: Final = frozenset({"dpop+jwt", "application/dpop+jwt"})
_PERIOD: Final = struct.Struct(">Q")
_MAC_BYTES: Final = 16
_COORDINATE_BYTES: Final = 32

_SCHEMES: Final = {
    "ws": "http",
    "wss": "https",
}  # a handshake is an HTTP request, whatever a client's library calls its URL
_PORTS: Final = {"http": 80, "https": 443}
_ESCAPED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]")  # RFC 3986 section 2.3

_PublicKey = ec.EllipticCurvePublicKey | Ed25519PublicKey


class Asked(Struct, frozen=True, kw_only=True):
    """What of a request its proof has to fit. `proofs` are its DPoP headers, of which there may be one."""

    method: str
    url: str
    proofs: Sequence[str] = ()


class Proof(Struct, frozen=True):
    """`thumbprint` names the key (RFC 7638); `mark` is the same for no other proof, and may be used once."""

    thumbprint: str
    mark: bytes


class _Key(Struct):
    """A public key as in RFC 7517; of its members only those that make it what it is, and those that must not be there."""

    kty: str
    crv: str
    x: str
    y: str | None = None
    d: Any = UNSET
    k: Any = UNSET


class _Header(Struct):
    """Whatever else stands there is not read: neither `kid`, nor `jku`, nor `x5c` decides which key verifies."""

    typ: str
    alg: str
    jwk: _Key
    crit: Any = UNSET
    b64: Any = UNSET


class _Claims(Struct):
    jti: str
    htm: str
    htu: str
    iat: int | float
    ath: str | None = None
    nonce: str | None = None


_jws: Final = jwt.PyJWS(algorithms=list(ALGORITHMS))
_header: Final = json.Decoder(_Header)
_claims: Final = json.Decoder(_Claims)


def derive_key(master_key: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"fitness dpop nonces v1").derive(master_key)


def nonce(key: bytes, now_s: int) -> str:
    period = _PERIOD.pack(now_s // NONCE_PERIOD_S)
    return _encoded(period + hmac.digest(key, period, "sha256")[:_MAC_BYTES])


def check(asked: Asked, key: bytes, now_s: int, *, access_token: str | None, needs_nonce: bool) -> Proof:
    """Check the request's proof but for whether it was used before. `key` is that of nonces.

    Without an access token the proof is for a new one. Raises DpopProofInvalid, or of these DpopNonceNeeded if the same
    client may succeed with a nonce. Source: RFC 9449 section 4.3, by whose numbers the checks go.
    """
    if len(asked.proofs) != 1:  # 1
        raise DpopProofInvalid("There has to be one DPoP header.")
    proof = asked.proofs[0]
    header = _read_header(proof)  # 2 to 4
    if header.typ.lower() not in _TYPES or header.crit is not UNSET or header.b64 is not UNSET:
        raise DpopProofInvalid("The header is not that of a DPoP proof.")
    if header.jwk.d is not UNSET or header.jwk.k is not UNSET:  # 7
        raise DpopProofInvalid("A proof must not give its private key away.")
    try:
        claims = _claims.decode(_jws.decode(proof, _public_key(header), algorithms=[header.alg]))  # 5 and 6
    except (jwt.PyJWTError, DecodeError, UnicodeError, RecursionError):
        raise DpopProofInvalid("The DPoP proof cannot be read, or its signature is wrong.") from None
    if claims.htm != asked.method:  # 8
        raise DpopProofInvalid("The proof is for another method.")
    if _normalised(claims.htu) != _normalised(asked.url):  # 9
        raise DpopProofInvalid("The proof is for another URL.")
    if not 0 < len(claims.jti) <= MAX_JTI:
        raise DpopProofInvalid(f"jti has 1 to {MAX_JTI} characters.")
    if access_token is not None and (claims.ath is None or not _same(claims.ath, _hash(access_token))):  # 12
        raise DpopProofInvalid("The proof is for another access token.")
    if claims.nonce is not None:  # 10 and 11
        if not any(_same(claims.nonce, nonce(key, now_s + apart * NONCE_PERIOD_S)) for apart in (0, -1, 1)):
            raise DpopNonceNeeded("The nonce is too old.", nonce=nonce(key, now_s))
    elif needs_nonce or not -MAX_AHEAD_S <= now_s - claims.iat <= MAX_AGE_S:
        raise DpopNonceNeeded("The proof needs a nonce.", nonce=nonce(key, now_s))
    thumbprint = thumbprint_of(header.jwk)
    return Proof(thumbprint, sha256(f"{thumbprint}.{claims.jti}".encode("utf-8", "surrogatepass")).digest())


def thumbprint_of(key: _Key) -> str:
    """RFC 7638: the hash of the required members in their order."""
    members = {"crv": key.crv, "kty": key.kty, "x": key.x}
    if key.y is not None and key.kty == "EC":
        members["y"] = key.y
    return _encoded(sha256(json.encode(members)).digest())


def _read_header(proof: str) -> _Header:
    encoded, _, _ = proof.partition(".")
    if len(proof) > MAX_PROOF_BYTES or not proof.isascii():
        raise DpopProofInvalid("This is not a DPoP proof.")
    try:
        return _header.decode(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (binascii.Error, ValueError, DecodeError, RecursionError):
        raise DpopProofInvalid("This is not a DPoP proof.") from None


def _public_key(header: _Header) -> _PublicKey:
    key = header.jwk
    try:
        match header.alg, key.kty, key.crv:
            case "ES256", "EC", "P-256" if key.y is not None:
                x, y = (int.from_bytes(_coordinate(text)) for text in (key.x, key.y))
                return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
            case "EdDSA", "OKP", "Ed25519":
                return Ed25519PublicKey.from_public_bytes(_coordinate(key.x))
    except ValueError:  # not base64, not of its length, or not a point of the curve
        pass
    raise DpopProofInvalid(f"The key has to be a P-256 or Ed25519 one that signs with {' or '.join(ALGORITHMS)}.")


def _coordinate(text: str) -> bytes:
    """One spelling only, so that a key has one thumbprint. Raises ValueError."""
    raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if len(raw) != _COORDINATE_BYTES or _encoded(raw) != text:
        raise ValueError(text)
    return raw


def _normalised(url: str) -> str | None:
    """Without query and fragment, and as RFC 3986 sections 6.2.2 and 6.2.3 compare. None: no URL that a request may have."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    scheme = _SCHEMES.get(parts.scheme, parts.scheme)
    if scheme not in _PORTS or not host or parts.username is not None:
        return None
    path = _ESCAPED.sub(_unescaped, parts.path) or "/"
    return f"{scheme}://{host}:{port or _PORTS[scheme]}{path}"


def _unescaped(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    return character if _UNRESERVED.fullmatch(character) else found[0].upper()


def _hash(access_token: str) -> str:
    return _encoded(sha256(access_token.encode("utf-8", "surrogatepass")).digest())


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode())


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
