"""The keys that sign access tokens: how they are made, sealed, published and rotated.

One key is always published as `next`, so that every verifier's cached key set has it before it signs, and one that signed stays a
day as `retired` after its last token; so keys rotate without logging anybody out, by their age and whenever an operator wants.
Source: RFC 7517, RFC 7518 section 6.2.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from fitness_api.identity.errors import SigningKeysUnreadable

_DAY_MS: Final = 24 * 3600 * 1000
ROTATE_AFTER_MS: Final = 90 * _DAY_MS  # long enough to be rare, short enough that the path is exercised
PUBLISH_BEFORE_MS: Final = 600_000  # twice the five minutes for which the key set may be cached
RETIRE_FOR_MS: Final = _DAY_MS  # many times the ten minutes of an access token

SECRET_BYTES: Final = 48  # 128 bits beyond the order: the bias of taking the remainder vanishes (FIPS 186-5 A.2.1)
NONCE_BYTES: Final = 12

_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256, SP 800-186

State = Literal["next", "current", "retired"]


class PublicJWK(Struct, frozen=True, kw_only=True):
    """A public key as in RFC 7517."""

    kty: Literal["EC"] = "EC"
    crv: Literal["P-256"] = "P-256"
    use: Literal["sig"] = "sig"
    alg: Literal["ES256"] = "ES256"
    kid: str
    x: str
    y: str


class StoredKey(Struct, frozen=True, kw_only=True):
    """`sealed` is the nonce, then the private scalar under AES-256-GCM with the kid as associated data."""

    kid: str
    state: State
    state_since_ms: int
    public: PublicJWK
    sealed: bytes


@dataclass(frozen=True)
class SigningKey:
    kid: str
    private: ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Make:
    state: State


@dataclass(frozen=True)
class Move:
    kid: str
    before: State
    after: State


@dataclass(frozen=True)
class Drop:
    kid: str


Step = Make | Move | Drop


def due(keys: Sequence[StoredKey], now_ms: int) -> Step | None:
    """Return the next step of rotation. Each is safe to lose and to repeat; whoever comes next carries on."""
    current = [key for key in keys if key.state == "current"]
    following = [key for key in keys if key.state == "next"]
    if not current:
        return Move(following[0].kid, "next", "current") if following else Make("current")
    if not following:
        return Make("next")
    if now_ms - current[0].state_since_ms >= ROTATE_AFTER_MS and may_sign_from_ms(following[0]) <= now_ms:
        return retirement(keys)
    for key in keys:
        if key.state == "retired" and now_ms - key.state_since_ms >= RETIRE_FOR_MS:
            return Drop(key.kid)
    return None


def retirement(keys: Sequence[StoredKey]) -> Step | None:
    """Return the step after which the next key is due to sign."""
    return next((Move(key.kid, "current", "retired") for key in keys if key.state == "current"), None)


def may_sign_from_ms(following: StoredKey) -> int:
    """When every cached key set has this next key."""
    return following.state_since_ms + PUBLISH_BEFORE_MS


def derive_key(master_key: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"fitness signing keys v1").derive(master_key)


def make(*, kid: str, state: State, secret: bytes, nonce: bytes, sealing_key: bytes, now_ms: int) -> StoredKey:
    """`secret` and `nonce` are SECRET_BYTES and NONCE_BYTES of fresh randomness."""
    scalar = int.from_bytes(secret) % (_ORDER - 1) + 1
    numbers = ec.derive_private_key(scalar, ec.SECP256R1()).public_key().public_numbers()
    return StoredKey(
        kid=kid,
        state=state,
        state_since_ms=now_ms,
        public=PublicJWK(kid=kid, x=_coordinate(numbers.x), y=_coordinate(numbers.y)),
        sealed=nonce + AESGCM(sealing_key).encrypt(nonce, scalar.to_bytes(32), kid.encode()),
    )


def unseal(key: StoredKey, sealing_key: bytes) -> SigningKey:
    """Raises SigningKeysUnreadable if it was sealed under another key or kid, or altered."""
    nonce, ciphertext = key.sealed[:NONCE_BYTES], key.sealed[NONCE_BYTES:]
    try:
        scalar = AESGCM(sealing_key).decrypt(nonce, ciphertext, key.kid.encode())
    except InvalidTag:
        raise SigningKeysUnreadable from None
    return SigningKey(key.kid, ec.derive_private_key(int.from_bytes(scalar), ec.SECP256R1()))


def public_key(key: PublicJWK) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicNumbers(_integer(key.x), _integer(key.y), ec.SECP256R1()).public_key()


def _coordinate(value: int) -> str:
    return urlsafe_b64encode(value.to_bytes(32)).rstrip(b"=").decode("ascii")


def _integer(coordinate: str) -> int:
    return int.from_bytes(urlsafe_b64decode(coordinate + "="))
