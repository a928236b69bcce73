"""What a gravestone keeps of an account's addresses: by whom an address is known it can be found, and it cannot be read from it.

    key = derive_key(master_key)
    hash_of("ada@example.org", key)

Addresses are few enough to be tried one by one, so that the hash is under a key; and whoever has the key could try, so that it is
kept for no longer than somebody may ask what became of their account.
"""

import hmac
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

# Three years: the limitation period within which a claim can be made, and has to be answered, in most of Europe.
KEPT_MS: Final = 3 * 366 * 24 * 3600 * 1000


def derive_key(master_key: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"fitness gravestones v1").derive(master_key)


def hash_of(address: str, key: bytes) -> bytes:
    """`address` is normalised (`accounts.normalised_address`)."""
    return hmac.digest(key, address.encode(), "sha256")
