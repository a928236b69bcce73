"""A device grant: what a watch shows, what a person types, and what each poll gets. Source: RFC 8628.

A user code has 8 of 20 letters: 2.56e10 codes. What bounds the guesses is in docs/protocols/identity.md.
"""

import hmac
from collections.abc import Callable
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import Final, Literal

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct
from msgspec.structs import replace

ALPHABET: Final = (
    "BCDFGHJKLMNPQRSTVWXZ"  # RFC 8628 section 6.1: no vowels, so no words; nothing that looks like a digit
)
LETTERS: Final = 8
LIFETIME_MS: Final = 600_000  # the protocol's number
INTERVAL_S: Final = 5  # RFC 8628 section 3.2: what a device takes where nothing is said
SLOWER_BY_S: Final = 5  # RFC 8628 section 3.5
_JITTER_MS: Final = 1_000  # what a radio adds to one poll and not to the next
MAX_TYPED: Final = 64
MAX_USER_AGENT: Final = 200

# A person recognises a town, not a household: the block that a provider gives out together.
_IPV4_BLOCK: Final = 24
_IPV6_BLOCK: Final = 48

State = Literal["pending", "approved", "denied", "redeemed"]


class Approval(Struct, frozen=True, kw_only=True):
    """Who allowed it, and in which session."""

    user_id: str
    session_id: str
    methods: tuple[str, ...]
    authenticated_at_ms: int


class DeviceGrant(Struct, frozen=True, kw_only=True):
    """name: a keyed digest of the user code. place: the address block that the device asked from, "" where it is not known.

    polls: counts them, so that of two at the same time one is told to wait.
    """

    name: str
    secret_digest: bytes
    client_id: str
    scopes: tuple[str, ...]
    place: str
    user_agent: str
    created_at_ms: int
    expires_at_ms: int
    interval_s: int = INTERVAL_S
    polled_at_ms: int | None = None
    polls: int = 0
    state: State = "pending"
    approval: Approval | None = None


class Answer(Struct, frozen=True):
    """What a poll gets: an error of RFC 8628 section 3.5 with the grant to be stored, or None: the tokens."""

    error: str | None
    after: DeviceGrant


def drawn(below: Callable[[int], int]) -> str:
    """Return a user code, from a source of random numbers below what it is asked for."""
    return "".join(ALPHABET[below(len(ALPHABET))] for _ in range(LETTERS))


def shown(user_code: str) -> str:
    return f"{user_code[: LETTERS // 2]}-{user_code[LETTERS // 2 :]}"


def read(typed: str) -> str | None:
    """Return the code that was typed, however it was grouped and cased. None: it cannot be one."""
    if len(typed) > MAX_TYPED:
        return None
    letters = "".join(
        character for character in typed.upper() if character not in " -\u2010\u2011\u2012\u2013\u2014\u00a0._"
    )
    return letters if len(letters) == LETTERS and set(letters) <= set(ALPHABET) else None


def derive_key(master_key: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"fitness user codes v1").derive(master_key)


def name_of(user_code: str, key: bytes) -> str:
    """Keyed: there are so few codes that a plain digest would be as good as the code."""
    return hmac.digest(key, user_code.encode(), "sha256").hex()


def device_code(name: str, secret: str) -> str:
    return f"{name}.{secret}"


def opened(code: str) -> tuple[str, bytes] | None:
    """Return a device code's name and its secret's digest."""
    name, dot, secret = code.partition(".")
    if len(code) > 256 or not dot or not code.isascii():
        return None
    return name, sha256(secret.encode()).digest()


def poll(grant: DeviceGrant, now_ms: int) -> Answer:
    if now_ms >= grant.expires_at_ms:
        return Answer("expired_token", grant)
    seen = replace(grant, polled_at_ms=now_ms, polls=grant.polls + 1)
    if grant.polled_at_ms is not None and now_ms - grant.polled_at_ms < grant.interval_s * 1_000 - _JITTER_MS:
        # Whatever was decided meanwhile; and it stays slower.
        return Answer("slow_down", replace(seen, interval_s=grant.interval_s + SLOWER_BY_S))
    match grant.state:
        case "pending":
            return Answer("authorization_pending", seen)
        case "denied":
            return Answer("access_denied", seen)
        case "redeemed":
            return Answer("invalid_grant", seen)
        case "approved":
            return Answer(None, replace(seen, state="redeemed"))


def place_of(address: str) -> str:
    """Return the block of an address, "" where it is none."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if ip.version == 6 and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return str(ip_network((ip, _IPV4_BLOCK if ip.version == 4 else _IPV6_BLOCK), strict=False))
