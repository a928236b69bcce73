"""The port to what may be redeemed once: codes, reset tokens, challenges, nonces. Adapter: `single_use_mongo`."""

import secrets
from collections.abc import Collection
from hashlib import sha256
from typing import Final, Protocol

from msgspec import Struct

SECRET_BYTES: Final = 32  # nobody guesses one, so a plain hash of it suffices at rest


class Artefact(Struct, frozen=True, kw_only=True):
    """kind: names its purpose; one of another kind is another. user_id: None where it is nobody's yet. content: its purpose's own."""

    kind: str
    digest: bytes
    user_id: str | None = None
    content: bytes = b""
    expires_at_ms: int


class Used(Struct, frozen=True):
    """It was redeemed before. note: what its redeemer wrote down."""

    artefact: Artefact
    note: bytes


class SingleUse(Protocol):
    """What every adapter keeps to; tests/fitness_api/identity/test_single_use_mongo.py checks each bullet.

    - However many redeem an artefact at the same time, in any process, one of them gets it.
    - Only a digest of the secret is stored.
    - What has expired is neither read nor redeemed; when it is removed is the adapter's.
    - Every method raises StoreUnavailable when the database does not answer; `use` may then have taken effect.
    """

    async def add(self, artefact: Artefact) -> None: ...

    async def read(self, kind: str, digest: bytes, *, now_ms: int) -> Artefact | None:
        """Return it if it was not redeemed."""
        ...

    async def use(self, kind: str, digest: bytes, *, now_ms: int, note: bytes = b"") -> Artefact | Used | None:
        """Redeem it, with a first note for who presents it again. None: there is none, or no more."""
        ...

    async def annotate(self, kind: str, digest: bytes, note: bytes) -> None:
        """Write down, for who presents it again, what came of a redeemed one."""
        ...

    async def miss(self, kind: str, digest: bytes) -> int:
        """Count what was shown with it and did not hold; return how often that was, however many call at the same time."""
        ...

    async def cancel(self, user_id: str, kinds: Collection[str] | None = None) -> None:
        """Remove the account's artefacts of these kinds, or all of them, redeemed or not."""
        ...


def secret() -> str:
    """Return a new secret, fit for a URL."""
    return secrets.token_urlsafe(SECRET_BYTES)


def digest_of(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
