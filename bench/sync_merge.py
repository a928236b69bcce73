"""The merge in memory, beside pycrdt's (the Rust implementation of Yjs)."""

import random
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pycrdt
from rich.console import Console

from bench import workload
from bench.tables import table
from bench.workload import Fields
from sync import changes, clock, digest, merge
from sync.document import Document, Key
from sync.head import Head

WORKOUTS = 2_000
BATCH = 100
ROUNDS = 3


def run(console: Console, *, quick: bool) -> None:
    _merge_beside_pycrdt(console, WORKOUTS // 10 if quick else WORKOUTS)


def _merge_beside_pycrdt(console: Console, count: int) -> None:
    """Three-field changes merged into workouts in memory: ours from JSON bytes, pycrdt's from its own encoded updates."""
    dice = random.Random(workload.SEED)
    now_ms = 1_760_000_000_000
    names = workload.workout_ids(dice, count)
    full = [workload.workout(dice) for _ in names]
    edits = [workload.update(dice) for _ in names]

    def sent(name: str, fields: Fields, stamp: clock.Stamp) -> bytes:
        change = {"id": name, "collection": "workouts", "doc": name, "stamp": clock.to_wire(stamp), "set": fields}
        return msgspec.json.encode(change)

    first, second = (clock.tick(clock.ZERO, now_ms=now_ms + step, replica=7) for step in (0, 1))
    creating = [sent(name, fields, first) for name, fields in zip(names, full, strict=True)]
    editing = [sent(name, fields, second) for name, fields in zip(names, edits, strict=True)]

    def ours(
        raw: Sequence[bytes], documents: dict[Key, Document], *, with_check: bool
    ) -> tuple[float, float, dict[Key, Document]]:
        """Return changes/s, the same without the time that digests take, and the documents after it."""
        head = Head(epoch=1, seq=len(documents), devices={})
        after = dict(documents)
        checked = [] if with_check else [changes.check(one, "json") for one in raw]
        started = time.perf_counter()
        for at in range(0, len(raw), BATCH):
            if with_check:
                checked.extend(changes.check(one, "json") for one in raw[at : at + BATCH])
            batch = checked[at : at + BATCH]
            keys = [change.key for change in batch]
            outcome = merge.apply(batch, merge.State(head, keys, documents, {}), now_ms=now_ms)
            head = outcome.head
            after.update({document.key: document for document in outcome.written})
        took_s = time.perf_counter() - started
        started = time.perf_counter()
        for change in checked:
            digest.changed(documents.get(change.key), after[change.key])
        digests_s = time.perf_counter() - started
        return len(raw) / took_s, len(raw) / (took_s - digests_s), after

    def theirs(updates: Sequence[bytes], docs: Sequence[pycrdt.Doc[Any]]) -> float:
        started = time.perf_counter()
        for update, doc in zip(updates, docs, strict=True):
            doc.apply_update(update)
        return len(updates) / (time.perf_counter() - started)

    encoded = _as_pycrdt(full, edits)

    systems = ("pycrdt", "registers", "merge", "check + merge")
    rates: dict[str, list[list[float]]] = {who: [[], []] for who in systems}
    for _ in range(ROUNDS):
        for who, with_check in (("merge", False), ("check + merge", True)):
            documents: dict[Key, Document] = {}
            for index, raw in enumerate((creating, editing)):
                rate, without_digests, documents = ours(raw, documents, with_check=with_check)
                rates[who][index].append(rate)
                if not with_check:
                    rates["registers"][index].append(without_digests)
        readers = [pycrdt.Doc[Any]() for _ in names]
        rates["pycrdt"][0].append(theirs(encoded[0], readers))
        rates["pycrdt"][1].append(theirs(encoded[1], readers))

    shown = table(
        f"In memory, {count:,} workouts, changes/s (median of {ROUNDS} rounds)",
        "what", "pycrdt", *(heading for who in systems[1:] for heading in (who, "÷ pycrdt")),
    )  # fmt: skip
    for index, what in enumerate(("create (33 registers)", "update (3 registers)")):
        crdt, *others = (sorted(rates[who][index])[ROUNDS // 2] for who in systems)
        shown.add_row(what, f"{crdt:,.0f}", *(text for one in others for text in (f"{one:,.0f}", f"{one / crdt:.2f}")))
    console.print(shown)


def _as_pycrdt(full: Sequence[Fields], edits: Sequence[Fields]) -> list[list[bytes]]:
    """Return the same changes as pycrdt's encoded updates: what makes each workout, and what edits it."""
    writers = [pycrdt.Doc[Any]() for _ in full]
    maps = [doc.get("workout", type=pycrdt.Map) for doc in writers]
    encoded: list[list[bytes]] = []
    for fields_of in (full, edits):
        step = []
        for doc, values, fields in zip(writers, maps, fields_of, strict=True):
            before = doc.get_state()
            with doc.transaction():
                values.update(fields)
            step.append(doc.get_update(before))
        encoded.append(step)
    return encoded
