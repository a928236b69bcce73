"""What is remembered of requests that carried an Idempotency-Key."""

from typing import Literal, NamedTuple, Protocol

Kind = Literal["running", "seen", "answered", "unanswered"]
"""running: not answered yet. seen: may run again. answered: `content` is the answer. unanswered: done, and its answer was not kept."""


class Record(NamedTuple):
    """digest: of the request's body, 32 bytes."""

    kind: Kind
    digest: bytes
    content: bytes = b""


class Records(Protocol):
    """One record a slot, at most.

    - `begin` puts the owner's "running" where there is nothing or what may run again with the same digest, and returns None; else it changes
      nothing and returns what is there. Of those that begin at once, one does.
    - `note` puts "seen" where there is nothing, and returns what is there else.
    - `end` replaces what `begin` put, unless it has gone since; `None` removes it.
    - "running" lasts `running_ms`, everything else `kept_ms`.
    - Raises RecordsUnavailable. Whether anything changed is not known then.
    """

    async def begin(self, slot: str, digest: bytes, owner: bytes) -> Record | None: ...

    async def note(self, slot: str, digest: bytes) -> Record | None: ...

    async def end(self, slot: str, digest: bytes, owner: bytes, record: Record | None) -> None: ...


class RecordsUnavailable(Exception):
    """For whoever can do without; nobody else sees it."""
