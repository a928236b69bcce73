"""The port to an account's documents. Adapters: `store_mongo` (production), `store_memory` (simulation)."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Protocol

from sync.clock import Stamp
from sync.document import Document, Key
from sync.head import Head
from sync.merge import Outcome, State

Step = Callable[[State], Outcome]


class Store(Protocol):
    """What every adapter keeps to; tests/sync/test_store.py checks each bullet against each adapter.

    - `update` is atomic: all of the outcome is stored, or nothing is, whatever process dies when.
    - Updates of one account happen one after another, in the order of their sequences: whoever reads a sequence has every
      smaller one to read.
    - What `update` returned is durable (majority, journaled), and every later read of this account sees it.
    - `step` is pure and may be run again on newer state before one outcome is stored. An outcome without writes stores nothing.
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

    async def head(self, user_id: str, *, surely_newest: bool = False) -> Head | None:
        """None: no device was ever registered.

        Just after an election a head may be read that is older than one read before; `surely_newest` waits until it is not.
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

    def changed(
        self, user_id: str, collections: Collection[str], *, after: int, upto: int, newest_first: bool
    ) -> AsyncIterator[Document]:
        """Give the documents with after < seq <= upto in order of seq, as they are now, in the given collections."""
        ...

    async def count_changed(self, user_id: str, collections: Collection[str], *, after: int, upto: int) -> int:
        """Count what `changed` would give."""
        ...
