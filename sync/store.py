"""The port to an account's documents. Adapters: `store_mongo` (production), `store_memory` (simulation)."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from sync.clock import Stamp
from sync.document import Document, Key
from sync.head import Head
from sync.merge import Outcome, State

Step = Callable[[State], Outcome]


class Tombstone(NamedTuple):
    key: Key
    seq: int
    deleted_ms: int


class View(Protocol):
    """An account as it was at one moment: the head and every document read belong together, however long the reading takes.

    So nothing moves while a page is read: a document that is written meanwhile is seen as it was before, where it was before.
    """

    @property
    def head(self) -> Head: ...

    def changed(
        self,
        collections: Collection[str],
        *,
        after: int,
        upto: int,
        snapshot: bool = False,
        room: Callable[[], int] | None = None,
    ) -> AsyncIterator[Document]:
        """Give the documents with after < seq <= upto in order of seq, in the given collections.

        In a `snapshot` the newest comes first, and what was purged is left out. `room` is asked whenever some are to be read: how
        many more the caller presumably takes, 1 or more.
        """
        ...

    async def count_changed(
        self, collections: Collection[str], *, after: int, upto: int, snapshot: bool = False
    ) -> int:
        """Count what `changed` would give."""
        ...

    def in_bucket(self, collection: str, bucket: int | None, *, after: int) -> AsyncIterator[Document]:
        """As `changed`, without what was purged, and of one of the collection's buckets (`digest.bucket_of`), or of all."""
        ...


class Store(Protocol):
    """What every adapter keeps to; tests/sync/test_store.py checks each bullet against each adapter.

    - `update` is atomic: all of the outcome is stored, or nothing is, whatever process dies when.
    - Updates of one account happen one after another, in the order of their sequences: whoever reads a sequence has every
      smaller one to read.
    - What `update` returned is durable (majority, journaled), and every later read of this account sees it.
    - `step` is pure and may be run again on newer state before one outcome is stored. An outcome without writes, whose head is
      the one it was given, stores nothing.
    - After `erase` nothing of the account can be read or written: `head`, `update` and `register_device` raise AccountDeleted.
    - Every method raises StoreUnavailable when the database does not answer; all of them may then be called again.
    """

    async def register_device(self, user_id: str, device_id: str) -> int:
        """Return the device's replica number, 1 to 4095: the same at every call, and given to no other device, ever.

        Raises TooManyDevices or ReplicasExhausted.
        """
        ...

    async def forget_device(self, user_id: str, device_id: str) -> None:
        """The device may not sync any more; its replica number stays taken. Unknown devices are no error."""
        ...

    async def head(self, user_id: str) -> Head | None:
        """None: no device was ever registered."""
        ...

    def view(self, user_id: str, *, at_least: int = 0) -> AbstractAsyncContextManager[View | None]:
        """The account as it is now, after everything that `update` returned before. None: no device was ever registered.

        Just after an election a server may show less than was acknowledged. Where the newest sequence is below `at_least`,
        which the caller knows to have been given, it is waited until that is not so, or sure (of a restored server).
        """
        ...

    async def update(
        self, user_id: str, keys: Sequence[Key], stamps: Collection[Stamp], step: Step
    ) -> tuple[State, Outcome]:
        """Run one step and store its outcome. Return the state the step was given, and the outcome.

        keys: sorted. The step is given the first so many of them: all, unless their documents together are too large to
        be held at once; never none. `stamps` are those whose replacements the step wants to know.
        An account's head is made when it is first needed. What the step raises passes through, and nothing is stored.
        """
        ...

    async def document(self, user_id: str, key: Key) -> Document | None: ...

    async def tombstones(self, user_id: str, *, limit: int) -> list[Tombstone]:
        """Return the deleted documents that are not purged, the first deleted first."""
        ...

    async def trim_rejected(self, user_id: str, *, most_bytes: int) -> Head:
        """Remove the oldest entries of the quarantine beyond so many bytes, and note what is left. Return the head after it."""
        ...

    async def bump_epoch(self, user_id: str) -> bool:
        """Make every cursor of the account foreign. False: there is no such account, or no device of it."""
        ...

    async def bump_all_epochs(self) -> None:
        """Make every cursor of every account foreign; processes that run already find out within seconds."""
        ...

    async def erase(self, user_id: str, *, now_ms: int) -> None:
        """Fence the account, then remove all of its records but the fence. Cut off in between, it is finished by another call."""
        ...
