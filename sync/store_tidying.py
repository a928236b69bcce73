"""A store that also removes the tracks of workouts that were deleted for good: they tell where somebody was."""

from collections.abc import Callable, Collection, Sequence

from sync.clock import Stamp
from sync.document import Key
from sync.merge import Outcome, State
from sync.store import Step, Store
from sync.store_hinting import HintingStore
from sync.track_store import COLLECTION, TrackStore


class TidyingStore(HintingStore):
    """The documents' purge commits first, because a workout may be restored until then. A process that dies between the two
    leaves chunks that nothing lists; they go with the account.
    """

    def __init__(self, store: Store, announce: Callable[[str], None], tracks: TrackStore) -> None:
        super().__init__(store, announce)
        self._tracks = tracks

    async def update(
        self, user_id: str, keys: Sequence[Key], stamps: Collection[Stamp], step: Step
    ) -> tuple[State, Outcome]:
        state, outcome = await super().update(user_id, keys, stamps, step)
        if outcome.written and outcome.written[0].purged:  # then all of them are
            for document in outcome.written:
                if document.key.collection == COLLECTION:
                    await self._tracks.erase(user_id, document.key.id)
        return state, outcome
