"""What a user, or support, does with changes that were refused and values that lost."""

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from sync import changes, merge, values
from sync.changes import Change, Refusal, Result
from sync.conflicts import Conflict
from sync.errors import DocumentFull, DocumentPurged
from sync.log import Log
from sync.merge import Outcome, State
from sync.store import Store


async def retry(store: Store, log: Log, user_id: str, entry_id: str, *, now_ms: int) -> Result | None:
    """Merge a quarantined change again, as it came; accepted, it leaves the quarantine. None: there is no such entry.

    Called again, it does nothing twice. Raises StoreUnavailable.
    """
    entry = await log.rejected_one(user_id, entry_id)
    if entry is None:
        return None
    try:
        change: Change
        if len(entry.raw) > changes.CHECKED_INLINE_BYTES:  # it may be as large as a request
            change = await asyncio.to_thread(changes.check, entry.raw, entry.format)
        else:
            change = changes.check(entry.raw, entry.format)
    except Refusal as refusal:
        return refusal.result()

    def step(state: State) -> Outcome:
        outcome = merge.apply([change], state, now_ms=now_ms)
        if outcome.results[0].status == "rejected":
            return outcome
        return outcome._replace(accepted=[entry_id])

    _, outcome = await store.update(user_id, [change.key], [change.stamp], step)
    return outcome.results[0]


async def restore(store: Store, log: Log, user_id: str, conflict_id: str, *, now_ms: int) -> Conflict | None:
    """Write the value that lost, as the server, over what is there now. None: there is no such conflict.

    Called again, it does nothing as long as the value stands. Raises DocumentPurged, DocumentFull and StoreUnavailable.
    """
    conflict = await log.conflict(user_id, conflict_id, now_ms=now_ms)
    if conflict is None:
        return None
    restored = replace(conflict, restored_ms=now_ms)

    def step(state: State) -> Outcome:
        document = state.documents.get(conflict.key)
        stands = {} if document is None else document.values
        if conflict.path in stands and values.same(stands[conflict.path], conflict.lost_value):
            return Outcome(state.head)
        outcome = merge.write(conflict.key, {conflict.path: conflict.lost_value}, state, now_ms=now_ms)
        return outcome if _is_refused(outcome.results) else outcome._replace(conflicts=[restored])

    _, outcome = await store.update(user_id, [conflict.key], (), step)
    if _is_refused(outcome.results):
        refusal = DocumentPurged if outcome.results[0].code == "document_purged" else DocumentFull
        raise refusal(conflict.key.id)
    return restored if outcome.conflicts else conflict


def _is_refused(results: Sequence[Result]) -> bool:
    return any(result.status == "rejected" for result in results)
