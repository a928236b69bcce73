"""Refresh tokens: one counter a session under one HMAC key, and the decision what a presented token gets.

A token is base64url(version | user | session | counter | HMAC-SHA256 of these, cut to 128 bits). Nothing of it is stored
but the counter, so a copy of the database forges nothing, and any number of concurrent refreshes end in one token.

RFC 9700 section 4.14 asks for rotation, FAPI 2.0 for a retry that succeeds after a lost response. So the latest used
token gets its successor again for 30 s, and longer while nobody has shown that the successor arrived: neither it nor an
access token minted with it was ever seen. Any other token that was used before is a replay.
"""

import binascii
import hmac
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct
from msgspec.structs import replace

SLIDING_MS: Final = 30 * 24 * 3600 * 1000  # a phone left in a drawer for longer logs in again
ABSOLUTE_MS: Final = 180 * 24 * 3600 * 1000  # ASVS 10.4.8: a family ends some day, however busy
RETRY_WINDOW_MS: Final = 30_000  # covers an app's own retries; the protocol's number

_VERSION: Final = 1
_BODY: Final = struct.Struct(">B16s16sQ")
_MAC_BYTES: Final = 16  # ASVS 7.2.3 asks for 128 bits
# Divisible by three, so that base64 has no padding and no slack bits: a token has one spelling.
TOKEN_CHARACTERS: Final = (_BODY.size + _MAC_BYTES) * 4 // 3


class Session(Struct, frozen=True, kw_only=True):
    """One login and its family of tokens.

    counter: of the refresh token that may be used next; access tokens carry it as `gen`.
    used_at_ms: when the token before it was first used; None while no token was.
    seen_generation: the greatest `gen` that an access token was seen with.
    methods: how the user proved who they are, in the words of RFC 8176.
    key_thumbprint: of the key that its tokens are bound to (RFC 9449); None: whoever holds them may use them.
    """

    user_id: str
    session_id: str
    client_id: str
    scopes: tuple[str, ...]
    counter: int = 1
    used_at_ms: int | None = None
    seen_generation: int = 0
    authenticated_at_ms: int
    ends_at_ms: int
    expires_at_ms: int
    user_agent: str = ""
    methods: tuple[str, ...] = ()
    key_thumbprint: str | None = None


class RefreshToken(Struct, frozen=True):
    user_id: str
    session_id: str
    counter: int


class Advance(Struct, frozen=True):
    """Store `after` where the counter is still the one decided on; else decide again."""

    after: Session


class Repeat(Struct, frozen=True):
    """Give the session's present token once more; nothing is to be stored."""


class Replay(Struct, frozen=True):
    """Somebody else holds the token too: end the session."""


class Expired(Struct, frozen=True):
    """Nothing is to be done; the session is over."""


Decision = Advance | Repeat | Replay | Expired


def begin(
    *,
    user_id: str,
    session_id: str,
    client_id: str,
    scopes: tuple[str, ...],
    methods: tuple[str, ...] = (),
    user_agent: str,
    key_thumbprint: str | None = None,
    authenticated_at_ms: int | None = None,
    lifetime_ms: int | None = None,
    now_ms: int,
) -> Session:
    """authenticated_at_ms: None for now. lifetime_ms: None for as long as a session may last."""
    ends_at_ms = now_ms + (ABSOLUTE_MS if lifetime_ms is None else lifetime_ms)
    return Session(
        user_id=user_id,
        session_id=session_id,
        client_id=client_id,
        scopes=scopes,
        authenticated_at_ms=now_ms if authenticated_at_ms is None else authenticated_at_ms,
        ends_at_ms=ends_at_ms,
        expires_at_ms=min(now_ms + SLIDING_MS, ends_at_ms),
        user_agent=user_agent,
        methods=methods,
        key_thumbprint=key_thumbprint,
    )


def decide(presented: int, session: Session, now_ms: int) -> Decision:
    """Say what the token with this counter gets.

    A counter ahead of the stored one was given out before the database was restored from a backup: it advances, because
    only we can have made it, and refusing would log everybody out.
    """
    if now_ms >= session.expires_at_ms:
        return Expired()
    if presented >= session.counter:
        expires_at_ms = min(now_ms + SLIDING_MS, session.ends_at_ms)
        return Advance(replace(session, counter=presented + 1, used_at_ms=now_ms, expires_at_ms=expires_at_ms))
    if presented == session.counter - 1 and session.used_at_ms is not None:
        arrived = session.seen_generation >= session.counter
        if not arrived or now_ms - session.used_at_ms <= RETRY_WINDOW_MS:
            return Repeat()
    return Replay()


def derive_key(master_key: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"fitness refresh tokens v1").derive(master_key)


def mint(session: Session, key: bytes) -> str:
    body = _BODY.pack(_VERSION, UUID(session.user_id).bytes, UUID(session.session_id).bytes, session.counter)
    return urlsafe_b64encode(body + _mac(body, key)).decode("ascii")


def read(token: str, key: bytes) -> RefreshToken | None:
    """None: not one of ours, or altered."""
    if len(token) != TOKEN_CHARACTERS:
        return None
    try:
        raw = urlsafe_b64decode(token)
    except (binascii.Error, ValueError):
        return None
    if urlsafe_b64encode(raw).decode("ascii") != token:  # the decoder skips characters that are not its own
        return None
    body, mac = raw[: _BODY.size], raw[_BODY.size :]
    if not hmac.compare_digest(mac, _mac(body, key)):
        return None
    version, user, session, counter = _BODY.unpack(body)
    if version != _VERSION:
        return None
    return RefreshToken(str(UUID(bytes=user)), str(UUID(bytes=session)), counter)


def _mac(body: bytes, key: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")[:_MAC_BYTES]
