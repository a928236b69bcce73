"""The cookie by which a device that an account was logged in to from is known again.

It authenticates nobody: it moves wrong passwords from the quota that all strangers share to one of its own, so that nobody can be
kept out of his account by others who try it. Source: OWASP, Slow Down Online Guessing Attacks with Device Cookies.
"""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Final, NamedTuple

# As a session may last; whoever was away for longer is a stranger once more.
LIFETIME_S: Final = 180 * 86400
ID_BYTES: Final = 16
_VERSION: Final = b"\x01"
_DIGEST_BYTES: Final = 16
_BYTES: Final = len(_VERSION) + ID_BYTES + _DIGEST_BYTES + 8 + _DIGEST_BYTES
MAX_TEXT: Final = 4 * -(-_BYTES // 3)


class KnownDevice(NamedTuple):
    device_id: str
    subject_digest: bytes


def derive_key(master_key: bytes) -> bytes:
    return hmac.digest(master_key, b"fitness-api known device v1", "sha256")


def subject_digest(subject: str, key: bytes) -> bytes:
    return hmac.digest(key, b"subject\0" + subject.encode("utf-8", "surrogatepass"), "sha256")[:_DIGEST_BYTES]


def mint(subject: str, device_id: bytes, key: bytes, *, now_s: int) -> str:
    """device_id: ID_BYTES of chance."""
    said = _VERSION + device_id + subject_digest(subject, key) + (now_s + LIFETIME_S).to_bytes(8, "big")
    return urlsafe_b64encode(said + _mac(said, key)).rstrip(b"=").decode("ascii")


def read(text: str, key: bytes, *, now_s: int) -> KnownDevice | None:
    """Return None if it is not ours, or too old."""
    if len(text) > MAX_TEXT:
        return None
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    said, mac = raw[:-_DIGEST_BYTES], raw[-_DIGEST_BYTES:]
    if len(raw) != _BYTES or not hmac.compare_digest(mac, _mac(said, key)) or said[:1] != _VERSION:
        return None
    if int.from_bytes(said[-8:], "big") <= now_s:
        return None
    return KnownDevice(said[1 : 1 + ID_BYTES].hex(), said[1 + ID_BYTES : 1 + ID_BYTES + _DIGEST_BYTES])


def name(*, https: bool) -> str:
    """With the prefix a browser takes it from us alone, and never from a neighbouring host."""
    return "__Host-fitness-device" if https else "fitness-device"


def set_cookie(text: str, *, https: bool) -> str:
    secure = "; Secure" if https else ""
    return f"{name(https=https)}={text}; Path=/; Max-Age={LIFETIME_S}; HttpOnly; SameSite=Lax{secure}"


def in_cookies(cookies: Mapping[str, str], *, https: bool) -> str:
    return cookies.get(name(https=https), "")


def _mac(said: bytes, key: bytes) -> bytes:
    return hmac.digest(key, b"device\0" + said, hashlib.sha256)[:_DIGEST_BYTES]
