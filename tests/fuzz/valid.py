"""Requests as devices send them, from what the world has answered so far, with the odd values that are allowed."""

import time
from random import Random
from typing import Any, Final
from uuid import UUID

from sync import clock
from sync.changes import MAX_CHANGES
from sync.document import MAX_PATHS
from sync.schema import COLLECTIONS
from sync.tracks import STREAMS
from tests.fuzz.gateway import USERS, World

Json = dict[str, Any]

# Few documents, so that changes meet; few enough that reading all of them stays cheap.
DOCUMENTS: Final = 10
_KNOWN: Final = 40  # cursors, entries and ids that are remembered of each kind

TEXTS: Final = (
    "", " ", "Leg day", "a.b.c", "$set", "$", ".", "..", "~", "~0~1", "a/b", "x" * 127, "x" * 128, "x" * 129, "x" * 2_700,
    "x" * 16_382, "x" * 16_383, "\0", "a\0b", "\n", "\r\n", "\u2028", "\ufeff", "\ufffd", "\uffff", "é", "e\u0301", "ß", "İ",
    "\U0001f3cb\ufe0f", "\U0010ffff", "עברית", "\u202eabc", "\x7f", "\x1b[2J", '"', "\\", "\\u0000", "null", "0", "deleted",
    "tags/x", "__proto__", "2026-05-01T06:30:00.000Z", "'; DROP TABLE x", "%00", "\u0130" * 100, "😀" * 4_000,
)  # fmt: skip
NUMBERS: Final = (
    0, 1, -1, 5, 127, 128, 255, 256, 2**15, 2**31 - 1, 2**31, -(2**31) - 1, 2**32, 2**53 - 1, 2**53, -(2**53), 0.0, -0.0, 0.1,
    1.5, 1e21, 1e-7, 5e-324, 1.7976931348623157e308, 2.0**53, 1e15 + 0.3, 4.35,
)  # fmt: skip


class Draw:
    """Draws requests for one world, and learns from its answers."""

    def __init__(self, world: World, dice: Random) -> None:
        self.world = world
        self.dice = dice
        self.documents = [self.uuid() for _ in range(DOCUMENTS)]
        self.children = [self.uuid() for _ in range(3)]
        self.chunks = [self.uuid() for _ in range(4)]
        self.cursors: list[list[str]] = [[""] for _ in range(USERS)]
        self.changes: list[Json] = []
        self.sequences: dict[str, int] = {}
        self.entries: dict[str, list[str]] = {"rejected": [], "conflicts": []}
        self.pages: dict[str, list[str]] = {"rejected": [], "conflicts": []}

    def uuid(self) -> str:
        return str(UUID(int=self.dice.getrandbits(128), version=4))

    def learn(self, user: int, response: Any) -> None:
        if hasattr(response, "results"):
            _keep(self.cursors[user], response.cursor)
            for delta in response.documents:
                self.sequences[delta.id] = delta.seq
        for name in self.entries:
            for entry in getattr(response, name, ()):
                _keep(self.entries[name], entry.id)
            if hasattr(response, name) and response.cursor:
                _keep(self.pages[name], response.cursor)

    def round_trip(self, user: int) -> Json:
        dice = self.dice
        body: Json = {"device_id": dice.choice(self.world.devices[user]), "cursor": self.cursor(user)}
        if dice.random() < 0.3:
            body["limit"] = dice.choice((1, 1, 2, 3, 10, 500, 1000))
        if dice.random() < 0.15:
            body["collections"] = dice.sample([*COLLECTIONS, "rowing_machines"], dice.randint(0, 5))
        if dice.random() < 0.8:
            count = dice.choice((0, 1, 1, 1, 2, 2, 3, 5, 12))
            body["changes"] = [self.change(user) for _ in range(count)]
        return body

    def large(self, user: int) -> Json:
        """As many changes, paths or bytes as a request or a document may have, or one more."""
        dice = self.dice
        body = {**self.round_trip(user), "limit": 1_000}
        match dice.randrange(4):
            case 0:
                body["changes"] = [self.change(user) for _ in range(dice.choice((300, MAX_CHANGES, MAX_CHANGES + 1)))]
            case 1:
                text = "x" * dice.choice((1_000, 16_000))
                body["changes"] = [{**self.change(user), "set": {f"f{n}": text}} for n in range(dice.choice((60, 200)))]
            case 2:
                paths = {f"f{n}": n for n in range(dice.choice((MAX_PATHS - 20, MAX_PATHS, MAX_PATHS + 1)))}
                body["changes"] = [{**self.change(user), "set": paths}, self.change(user)]
            case _:
                value = [1e21] * 700  # as sent much shorter than as it is counted, and long to measure
                body["changes"] = [{**self.change(user), "set": {f"f{n}": value for n in range(14)}} for _ in range(20)]
        return body

    def cursor(self, user: int) -> str:
        whose = self.cursors[user] if self.dice.random() < 0.95 else self.cursors[1 - user]
        return whose[-1] if self.dice.random() < 0.6 else self.dice.choice(whose)

    def change(self, user: int) -> Json:
        dice = self.dice
        if self.changes and dice.random() < 0.12:
            again = dict(dice.choice(self.changes))
            if dice.random() < 0.3:
                again["id"] = self.uuid()
            return again
        replica = dice.choice(self.world.replicas[user])
        if dice.random() < 0.1:
            replica = dice.choice((0, 1, 4_095, *self.world.replicas[1 - user]))
        collection = dice.choice(("workouts", "workouts", "workouts", "nutrition", "goals", *COLLECTIONS))
        document = dice.choice(self.documents) if dice.random() < 0.97 else self.uuid()
        change: Json = {
            "id": self.uuid(),
            "collection": collection,
            "doc": document,
            "stamp": clock.to_wire(self.stamp(replica)),
            "set": self.fields(collection, replica),
        }
        if dice.random() < 0.4:
            change["base"] = dice.choice((0, 0, 1, self.sequences.get(document, 0), 2**53))
        _keep(self.changes, change)
        return change

    def stamp(self, replica: int) -> clock.Stamp:
        dice = self.dice
        now_ms = time.time_ns() // 1_000_000
        ahead_ms = dice.choice((0, 0, 0, 0, -1, -5, -1_000, -86_400_000, 50_000, 59_999, 60_001, 70_000, 10**9, 10**12))
        if dice.random() < 0.03:
            return clock.Stamp(dice.choice((1, 4_095, 4_096, clock.MAX_STAMP, clock.MAX_STAMP - 4_095, 1 << 21)))
        reading = max(0, now_ms + ahead_ms) << clock.COUNTER_BITS | dice.choice((0, 0, 1, 511))
        return clock.Stamp(min(reading << clock.REPLICA_BITS | replica, clock.MAX_STAMP))

    def fields(self, collection: str, replica: int) -> Json:
        dice = self.dice
        known = COLLECTIONS[collection]
        names = [*known]
        found: Json = {}
        for _ in range(dice.choice((1, 1, 2, 3, 5, 8))):
            name = dice.choice(names)
            match known[name].shape:
                case "set":
                    found[f"{name}/{dice.choice(('a', 'pr', 'x.y', '$d', 'ü', '~0', 'a b'))}"] = dice.random() < 0.7
                case "counter":
                    found[f"{name}/{replica}"] = dice.choice((0, 1, 250, 1.5, -3, 2**53))
                case "children":
                    field = dice.choice([*(known[name].fields or ()), "new"])
                    found[f"{name}/{dice.choice(self.children)}/{field}"] = self.value()
                case _:
                    found[name] = self.value()
        if dice.random() < 0.15:
            found[dice.choice(("x_new", "x/y", "x/y/z/w", "$x", "a.b", "x/a\0b", "~1", "é", "x" * 128))] = self.value()
        if dice.random() < 0.12:
            found["deleted"] = dice.random() < 0.7
        return found

    def value(self, depth: int = 0) -> Any:
        dice = self.dice
        kind = dice.random()
        if kind < 0.35:
            return dice.choice(NUMBERS)
        if kind < 0.65:
            return dice.choice(TEXTS[:3]) if dice.random() < 0.5 else dice.choice(TEXTS)
        if kind < 0.85 or depth > 3:
            return dice.choice((None, True, False))
        if kind < 0.93:
            return [self.value(depth + 1) for _ in range(dice.randint(0, 4))]
        return {dice.choice(TEXTS)[:50]: self.value(depth + 1) for _ in range(dice.randint(0, 4))}

    def chunk(self, path: str) -> Json:
        dice = self.dice
        count = dice.choice((1, 1, 2, 5, 60, 60, 700))
        offsets = sorted(dice.randrange(0, 100_000) for _ in range(count))
        return {
            "start": dice.choice(("2026-05-01T06:30:00.000Z", "2026-05-01T06:30:10Z", "1970-01-01T00:00:00+00:00")),
            "offsets_ms": offsets,
            "values": [self._sample(is_position="/position/" in path) for _ in range(count)],
        }

    def _sample(self, *, is_position: bool) -> Any:
        dice = self.dice
        if is_position:
            return dice.choice((None, [dice.uniform(-90, 90), dice.uniform(-180, 180)], [0, 180]))
        return dice.choice((None, dice.randrange(40, 200), dice.random() * 100, 61.5, -0.0))

    def chunk_path(self) -> str:
        dice = self.dice
        workout = dice.choice(self.documents[:3])
        return f"/v1/workouts/{workout}/tracks/{dice.choice(STREAMS)}/{dice.choice(self.chunks)}"

    def entry(self, name: str) -> str:
        return self.dice.choice(self.entries[name] or [self.uuid()])


def _keep(known: list[Any], one: Any) -> None:
    known.append(one)
    if len(known) > _KNOWN:
        del known[: len(known) - _KNOWN]
