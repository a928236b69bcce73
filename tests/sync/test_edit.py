"""Edits of clients that do not sync, over both stores, beside devices that do."""

from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from sync import edit, merge
from sync.document import Key, read
from sync.errors import DocumentExists, DocumentFull, DocumentPurged, NoDocument
from sync.patch import PatchInvalid
from sync.store import Store
from sync.store_memory import MemoryStore
from sync.store_mongo import MongoStore
from tests.sync.answers import USER, device, registers, sync
from tests.sync.answers import edit as edit_on
from tests.sync.answers import expected as expected_of
from tests.sync.model import NOW_MS, new_id


@pytest.fixture(params=["memory", "mongo"])
def store(request: pytest.FixtureRequest, database: AsyncDatabase[dict[str, Any]]) -> Store:
    return MemoryStore() if request.param == "memory" else MongoStore(database)


class Editor:
    def __init__(self, store: Store, user_id: str) -> None:
        self.store, self.user_id = store, user_id
        self.key = Key("workouts", new_id())

    async def create(self, now_ms: int = NOW_MS, **given: Any) -> edit.Edited:
        return await edit.create(self.store, self.user_id, self.key, given, now_ms=now_ms, new_id=new_id)

    async def change(self, now_ms: int = NOW_MS, **given: Any) -> edit.Edited:
        return await edit.change(self.store, self.user_id, self.key, given, now_ms=now_ms, new_id=new_id)

    async def delete(self) -> None:
        await edit.delete(self.store, self.user_id, self.key, now_ms=NOW_MS)

    async def shown(self) -> dict[str, Any]:
        found = await self.store.document(self.user_id, self.key)
        assert found is not None
        return read(found)


@pytest.fixture
def ada(store: Store) -> Editor:
    return Editor(store, new_id())


async def test_a_workout_is_made_changed_and_deleted(ada: Editor) -> None:
    made = await ada.create(title="Run", tags=["hot"], sets=[{"exercise": "Squat", "reps": 5}])
    assert made.is_new
    assert read(made.document) == await ada.shown()
    assert [child["reps"] for child in (await ada.shown())["sets"]] == [5]
    changed = await ada.change(title="Long run", tags=[])
    assert (changed.is_new, changed.document.seq) == (False, made.document.seq + 1)
    assert (await ada.shown())["title"] == "Long run"
    await ada.delete()
    for refused in (ada.change(title="x"), ada.delete()):
        with pytest.raises(NoDocument):
            await refused


async def test_the_same_again_is_found_made_and_another_is_refused(ada: Editor) -> None:
    made = await ada.create(title="Run", rpe=5)
    again = await ada.create(title="Run", rpe=5)
    assert (again.is_new, again.document.seq) == (False, made.document.seq)
    with pytest.raises(DocumentExists):
        await ada.create(title="Ride", rpe=5)
    assert (await ada.change(title="Run")).document.seq == made.document.seq


async def test_what_was_deleted_comes_back_by_being_made_again(ada: Editor) -> None:
    await ada.create(title="Run")
    await ada.delete()
    assert (await ada.create(title="Run")).is_new
    assert (await ada.shown()) == {"title": "Run", "deleted": False}


async def test_what_is_not_there_cannot_be_changed(ada: Editor) -> None:
    with pytest.raises(NoDocument):
        await ada.change(title="x")


@pytest.mark.parametrize("wrong", [{"tags": ["x" * 200]}, {"rpe": 2**60}, {"notes": "x" * 20_000}, {"a/b/c/d/e": 1}])
async def test_values_are_checked_as_those_of_devices_are(ada: Editor, wrong: dict[str, Any]) -> None:
    with pytest.raises(PatchInvalid):
        await ada.create(**wrong)
    assert await ada.store.document(ada.user_id, ada.key) is None


async def test_a_full_document_is_told(ada: Editor) -> None:
    await ada.create(tags=[str(n) for n in range(1_999)])
    await ada.change(title="fits")
    with pytest.raises(DocumentFull):
        await ada.change(notes="does not")


async def test_devices_are_told_and_what_they_send_later_wins(store: Store) -> None:
    phone = await device(store)
    edit_on(phone, new_id(), {"title": "from the phone"})
    await sync(store, phone)
    [key] = phone.answered
    editor = Editor(store, USER)
    editor.key = key
    await editor.change(title="from the web")
    await sync(store, phone)
    assert phone.shown(key) == {"title": "from the web"}
    edit_on(phone, key.id, {"title": "from the phone again"})
    await sync(store, phone)
    assert (await editor.shown())["title"] == "from the phone again"
    assert registers(phone) == await expected_of(store)


async def test_a_purged_id_is_barred(ada: Editor) -> None:
    await ada.create(title="Run")
    await ada.delete()
    await ada.store.update(
        ada.user_id, [ada.key], (), lambda state: merge.purge(state, now_ms=NOW_MS + 40 * 86_400_000)
    )
    with pytest.raises(DocumentPurged):
        await ada.create(title="Run")
    with pytest.raises(NoDocument):
        await ada.change(title="Run")
