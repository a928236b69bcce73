"""What a client that does not sync does to one document, through the merge: over everything that devices have sent so far."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from sync import changes, clock, merge, patch
from sync.changes import Refusal
from sync.clock import Stamp
from sync.document import Document, Key
from sync.errors import DocumentExists, DocumentFull, DocumentPurged, NoDocument
from sync.merge import Outcome, State
from sync.patch import PatchInvalid
from sync.store import Store
from sync.values import Value

# Of the change that is checked; the merge gives the true one.
_STAMP = clock.to_wire(Stamp(1 << 21))


class Edited(NamedTuple):
    """`document` as it is now. `is_new`: the edit made it, or brought it back."""

    document: Document
    is_new: bool


async def create(
    store: Store, user_id: str, key: Key, given: Mapping[str, Any], *, now_ms: int, new_id: Callable[[], str]
) -> Edited:
    """Make the document; called again with the same, it finds it made.

    Raises DocumentExists if it is there and differs, PatchInvalid, DocumentFull, DocumentPurged, AccountDeleted and StoreUnavailable.
    """

    def step(state: State) -> Outcome:
        there = state.documents.get(key)
        if there is not None and there.purged:
            raise DocumentPurged(key.id)
        stands = there is not None and not there.deleted
        changed = _checked(key, patch.paths(key.collection, there, given, new_id=new_id))
        if stands and changed:
            raise DocumentExists(key.id)
        if (there is None and not changed) or (there is not None and there.deleted):
            changed = {"deleted": False, **changed}
        return merge.write(key, changed, state, now_ms=now_ms)

    return await _done(store, user_id, key, step)


async def change(
    store: Store, user_id: str, key: Key, given: Mapping[str, Any], *, now_ms: int, new_id: Callable[[], str]
) -> Edited:
    """Patch the document. Raises NoDocument, PatchInvalid, DocumentFull, AccountDeleted and StoreUnavailable."""

    def step(state: State) -> Outcome:
        there = _there(state, key)
        changed = _checked(key, patch.paths(key.collection, there, given, new_id=new_id))
        return merge.write(key, changed, state, now_ms=now_ms)

    return await _done(store, user_id, key, step)


async def delete(store: Store, user_id: str, key: Key, *, now_ms: int) -> None:
    """Raises NoDocument, AccountDeleted and StoreUnavailable."""

    def step(state: State) -> Outcome:
        _there(state, key)
        return merge.write(key, {"deleted": True}, state, now_ms=now_ms)

    await _done(store, user_id, key, step)


def _there(state: State, key: Key) -> Document:
    there = state.documents.get(key)
    if there is None or there.deleted or there.purged:
        raise NoDocument(key.id)
    return there


async def _done(store: Store, user_id: str, key: Key, step: Callable[[State], Outcome]) -> Edited:
    state, outcome = await store.update(user_id, [key], (), step)
    for result in outcome.results:
        if result.status == "rejected":
            raise (DocumentPurged if result.code == "document_purged" else DocumentFull)(key.id)
    before = state.documents.get(key)
    after = next((document for document in outcome.written if document.key == key), before)
    if after is None:  # nothing was given of a document that is not there
        after = Document(key)
    return Edited(after, is_new=before is None or before.deleted)


def _checked(key: Key, wanted: Mapping[str, Any]) -> dict[str, Value]:
    """Return the stored forms, by the very rules that a device's change is checked by."""
    if not wanted:
        return {}
    sent = {"id": str(uuid4()), "collection": key.collection, "doc": key.id, "stamp": _STAMP, "set": wanted}
    try:
        return dict(changes.check(msgspec.json.encode(sent), "json").values)
    except Refusal as refusal:
        raise PatchInvalid("", str(refusal)) from refusal
