"""What the tests of sync share: generators, requests, and the ledger of what an honest device was told."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from sync import clock, document, exchange, values
from sync.changes import Change, Format, SyncRequest
from sync.clock import Stamp
from sync.document import Document, Key, Mark
from sync.merge import Outcome, State
from sync.schema import COLLECTIONS
from sync.store import Step, Store
from sync.values import Value

NOW_MS = 1_767_225_600_000  # 2026-01-01
CURSOR_KEY = b"k" * 32


def new_id() -> str:
    return str(uuid.uuid4())


def stamp_at(ms: int = NOW_MS, counter: int = 0, replica: int = 1) -> Stamp:
    return Stamp(ms << 21 | counter << 12 | replica)


def change_of(
    given: Mapping[str, Any],
    *,
    stamp: int,
    key: Key,
    change_id: str | None = None,
    base: int | None = None,
) -> Change:
    """A well-formed change, as `changes.check` gives it."""
    stored = {path: values.from_wire(value) for path, value in given.items()}
    size_bytes = len(msgspec.json.encode(given)) + 200
    return Change(change_id or new_id(), key, Stamp(stamp), base, stored, size_bytes)


def sent(
    given: Mapping[str, Any],
    *,
    stamp: int | str,
    doc: str,
    collection: str = "workouts",
    change_id: str | None = None,
    base: int | None = None,
) -> dict[str, Any]:
    """A change as a device sends it."""
    change = {
        "id": change_id or new_id(),
        "collection": collection,
        "doc": doc,
        "stamp": stamp if isinstance(stamp, str) else clock.to_wire(Stamp(stamp)),
        "set": dict(given),
    }
    return change if base is None else {**change, "base": base}


async def trip(
    store: Store,
    user_id: str,
    device_id: str,
    *changes: Mapping[str, Any],
    cursor: str = "",
    limit: int = 500,
    collections: Sequence[str] | None = None,
    received: Format = "json",
    answered: Format = "json",
    now_ms: int = NOW_MS,
    cursor_key: bytes = CURSOR_KEY,
) -> dict[str, Any]:
    """One round trip as the wire shows it: encoded and decoded on both sides."""
    encode = msgspec.json.encode if received == "json" else msgspec.msgpack.encode
    request = SyncRequest(
        device_id=device_id,
        cursor=cursor,
        limit=limit,
        collections=UNSET if collections is None else list(collections),
        changes=[Raw(encode(change)) for change in changes],
    )
    response = await exchange.round_trip(
        store,
        request,
        user_id=user_id,
        cursor_key=cursor_key,
        received=received,
        answered=answered,
        now_ms=now_ms,
    )
    decoded: dict[str, Any] = (
        msgspec.json.decode(msgspec.json.encode(response))
        if answered == "json"
        else msgspec.msgpack.decode(msgspec.msgpack.encode(response))
    )
    return decoded


class Passing:
    """A store that hands everything on: what a test's own store begins with."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.register_device = store.register_device
        self.forget_device = store.forget_device
        self.head = store.head
        self.view = store.view
        self.document = store.document
        self.tombstones = store.tombstones
        self.trim_rejected = store.trim_rejected
        self.bump_epoch = store.bump_epoch
        self.bump_all_epochs = store.bump_all_epochs
        self.erase = store.erase

    async def update(
        self, user_id: str, keys: Sequence[Key], stamps: Collection[Stamp], step: Step
    ) -> tuple[State, Outcome]:
        return await self._store.update(user_id, keys, stamps, step)


class Ledger:
    """What a device knows from answers alone: every register it was given, and each document's sequences."""

    def __init__(self) -> None:
        self.cursor = ""
        self.registers: dict[Key, dict[str, tuple[Value, Stamp]]] = {}
        self.seen: set[tuple[Key, int]] = set()

    def take(self, response: Mapping[str, Any]) -> None:
        for given in response["documents"]:
            key = Key(given["collection"], given["id"])
            self.seen.add((key, given["seq"]))
            if given.get("purged"):
                self.registers.pop(key, None)
            for wire, group in given["fields"].items():
                stamp = clock.from_wire(wire)
                assert stamp is not None
                for path, value in group.items():
                    self.enter(key, path, values.from_wire(value), stamp)
        self.cursor = response["cursor"]

    def enter(self, key: Key, path: str, value: Value, stamp: Stamp) -> None:
        mine = self.registers.setdefault(key, {}).get(path)
        if mine is None or document.wins(value, stamp, *mine):
            self.registers[key][path] = (value, stamp)

    async def pull(self, store: Store, user_id: str, device_id: str, **options: Any) -> list[dict[str, Any]]:
        """Round trips until the run ends. Returns the pages."""
        pages: list[dict[str, Any]] = []
        while not pages or pages[-1]["more"]:
            pages.append(await trip(store, user_id, device_id, cursor=self.cursor, **options))
            self.take(pages[-1])
        return pages


async def stored(store: Store, user_id: str) -> dict[Key, Document]:
    async with store.view(user_id) as view:
        if view is None:
            return {}
        return {one.key: one async for one in view.changed(list(COLLECTIONS), after=0, upto=view.head.seq)}


async def stored_registers(store: Store, user_id: str) -> dict[Key, dict[str, tuple[Value, Stamp]]]:
    return {key: found.registers() for key, found in (await stored(store, user_id)).items()}


def comparable(registers: Mapping[str, tuple[Value, Stamp]]) -> dict[str, tuple[bytes, Stamp]]:
    """Registers with values in canonical form: 1 and 1.0 are one value."""
    return {path: (values.canonical(value), stamp) for path, (value, stamp) in registers.items()}


# Text that databases and encoders trip over, without the surrogates that no wire carries.
texts = st.text(
    st.one_of(
        st.sampled_from('\0\x01"\\/~$.:a é\u2028\uffff\U0001f600'),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=8,
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 1.0, 0.0, -0.0, 2**31, 2**53, -(2**53), float(2**53), 1e20, 5e-324, 1e308]),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)

json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)

# Few and near: equal stamps, one replica's reading at another's time, clocks that ran back for years.
stamps = st.builds(
    stamp_at,
    ms=st.sampled_from([1, NOW_MS - 10 * 365 * 86_400_000, NOW_MS - 1, NOW_MS, NOW_MS + 60_000]),
    counter=st.sampled_from([0, 1, 511]),
    replica=st.sampled_from([1, 2, 4095]),
)

# Values of few kinds at few paths, so that registers collide.
colliding_values = st.sampled_from(
    [None, True, False, 0, 1, 1.0, "1", "", [], {}, [1], [1.0], {"a": 1, "b": 2}, {"b": 2, "a": 1.0}]
)
colliding_paths = st.sampled_from(["title", "deleted", "sets/a/reps", "tags/x", "new/field"])


@st.composite
def documents(draw: st.DrawFn, key: Key) -> Document:
    """A state of one document: registers with marks, the usual mark shared by some."""
    given = draw(st.dictionaries(colliding_paths, st.tuples(colliding_values, stamps, st.integers(1, 9)), max_size=5))
    usual = Mark(draw(stamps), draw(st.integers(1, 9)))
    marks = {path: Mark(stamp, seq) for path, (_, stamp, seq) in given.items() if draw(st.booleans())}
    stored_values = {path: values.from_wire(value) for path, (value, _, _) in given.items()}
    return Document(key, seq=9, values=stored_values, usual=usual, marks=marks)
