"""Recovery codes: what a person writes down for the day on which the phone is gone.

80 random bits each. What is kept is HMAC-SHA256 under a key that is not in the database: a slow hash is for words that people
choose, and 2^80 guesses are out of reach at any speed. So all of an account's are compared at the price of one.
"""

import hmac
from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

COUNT: Final = 10
SECRET_BYTES: Final = 10  # ASVS 6.6.3 asks a look-up secret for 20 bits and a throttle, or 112 bits or a salted hash
GROUP: Final = 4

# Crockford's: no letter looks like a figure, and none of the sixteen characters is padding.
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_ALIKE: Final = str.maketrans({"o": "0", "i": "1", "l": "1", "-": "", " ": ""})
CHARACTERS: Final = SECRET_BYTES * 8 // 5


def derive_key(master_key: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"fitness recovery codes v1").derive(master_key)


def shown(secret: bytes) -> str:
    """Return SECRET_BYTES as the code that a person keeps: `7k2m-9qxr-…`."""
    number = int.from_bytes(secret)
    plain = "".join(_ALPHABET[number >> shift & 31] for shift in range((CHARACTERS - 1) * 5, -1, -5))
    return "-".join(plain[at : at + GROUP] for at in range(0, CHARACTERS, GROUP))


def normalised(presented: str) -> str:
    """Return the code as it was made, whatever the case and the dashes, with what looks alike set right."""
    return "".join(presented.split()).lower().translate(_ALIKE)


def digest(code: str, *, user_id: str, key: bytes) -> bytes:
    """Of a code as it is shown or typed; one code in two accounts is kept differently."""
    return hmac.digest(key, f"{user_id}/{normalised(code)}".encode(errors="surrogatepass"), "sha256")


def without(presented: bytes, kept: Sequence[bytes]) -> tuple[bytes, ...] | None:
    """Return the digests that are left when this one is used. None: it is not among them. Compares all, whichever fits."""
    left = tuple(known for known in kept if not hmac.compare_digest(known, presented))
    return left if len(left) < len(kept) else None
