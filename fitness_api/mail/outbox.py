"""The port to mail that waits. Adapter: `outbox_mongo`."""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct


class Outgoing(Struct, frozen=True, kw_only=True):
    """What is to be written to whom; the letter itself is written when it leaves, so that no link in it rests in a database.

    mail_id: of two with one id the second is not kept while the first waits.
    user_id: None where only an address was given, which may be nobody's. address: None where it goes to the account's own.
    tries: how often it was taken, this time included.
    """

    mail_id: str
    kind: str
    user_id: str | None = None
    address: str | None = None
    details: Mapping[str, str] = {}
    created_at_ms: int
    tries: int = 0


class Outbox(Protocol):
    """What every adapter keeps to; tests/fitness_api/mail/test_outbox_mongo.py checks each bullet.

    - What `put` returned from is durable, and is taken by some process until it is `done` or KEPT_MS have passed.
    - Whoever takes at the same time: each gets others, until their lease ends.
    - `put` does as much whatever the address.
    - Every method is atomic, and raises OutboxUnavailable when the database does not answer; all may then be called again.
    """

    async def put(self, outgoing: Outgoing) -> None:
        """Keep it, due at once. One of its id that waits stays as it is."""
        ...

    async def take(self, *, limit: int, now_ms: int, until_ms: int) -> list[Outgoing]:
        """Lease the longest due: nobody else takes them before `until_ms`."""
        ...

    async def defer(self, outgoing: Outgoing, *, due_at_ms: int) -> None: ...

    async def done(self, outgoing: Outgoing) -> None:
        """Remove it, sent or given up."""
        ...

    async def of(self, user_id: str) -> list[Outgoing]: ...

    async def remove(self, user_id: str) -> None:
        """Remove all of an account (not atomically)."""
        ...
