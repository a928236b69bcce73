"""Codes from an authenticator app: HOTP over the count of half minutes. Source: RFC 6238, RFC 4226.

Written here because it is fifteen lines over `hmac`, and because a caller has to learn which step a code was of: a code
works once, so the step is remembered, which the usual library's yes or no does not allow.
"""

import hmac
from base64 import b32encode
from typing import Final
from urllib.parse import quote, urlencode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fitness_api.identity.errors import SecretsUnreadable

# What every authenticator app can do; some ignore the parameters of the URI and take these.
DIGITS: Final = 6
STEP_S: Final = 30
# RFC 6238 section 5.2: one step either way for clocks that are off and for slow fingers.
TOLERANCE_STEPS: Final = 1

SECRET_BYTES: Final = 20  # RFC 4226 section 4, R6: 160 bits
NONCE_BYTES: Final = 12


def step_of(now_ms: int) -> int:
    return now_ms // (STEP_S * 1000)


def code(secret: bytes, step: int) -> str:
    """RFC 4226 section 5.3."""
    digest = hmac.digest(secret, step.to_bytes(8), "sha1")
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4]) & 0x7FFF_FFFF
    return str(number % 10**DIGITS).zfill(DIGITS)


def matching_step(presented: str, secret: bytes, *, now_ms: int, after: int) -> int | None:
    """Return the step, later than `after`, whose code this is. Compares all of them, whichever fits."""
    now = step_of(now_ms)
    found = None
    for step in range(now - TOLERANCE_STEPS, now + TOLERANCE_STEPS + 1):
        fits = hmac.compare_digest(code(secret, step).encode(), presented.encode(errors="surrogatepass"))
        if fits and step > after:
            found = step
    return found


def normalised(presented: str) -> str:
    """Return the code without the spaces that apps show and people copy."""
    return "".join(presented.split())


def derive_key(master_key: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"fitness authenticator secrets v1").derive(master_key)


def seal(secret: bytes, *, user_id: str, nonce: bytes, key: bytes) -> bytes:
    """Return the nonce, then the secret under AES-256-GCM, which opens for this account only."""
    return nonce + AESGCM(key).encrypt(nonce, secret, user_id.encode())


def unseal(sealed: bytes, *, user_id: str, key: bytes) -> bytes:
    """Raises SecretsUnreadable if it was sealed under another key or for another account, or altered."""
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], user_id.encode())
    except InvalidTag:
        raise SecretsUnreadable from None


def encoded(secret: bytes) -> str:
    """Return the secret as a person types it: base32, which has no padding at SECRET_BYTES."""
    return b32encode(secret).decode("ascii").rstrip("=")


def uri(secret: bytes, *, service: str, account: str) -> str:
    """Source: https://github.com/google/google-authenticator/wiki/Key-Uri-Format, which every app reads."""
    # The colon between the two is the format's own; one within either would be read as it.
    label = f"{quote(service.replace(':', ' '), safe='')}:{quote(account.replace(':', ' '), safe='@')}"
    parameters = {
        "secret": encoded(secret),
        "issuer": service.replace(":", " "),
        "algorithm": "SHA1",
        "digits": str(DIGITS),
        "period": str(STEP_S),
    }
    return f"otpauth://totp/{label}?{urlencode(parameters, quote_via=quote)}"
