"""A device in the simulation: the real replica, a clock that cannot be trusted, and what its user did."""

from collections.abc import Mapping
from typing import Any, Final

from sync import values
from sync.document import Key
from sync.replica import Replica
from tests.simulate.flight import Flight
from tests.simulate.oracle import State, canonical
from tests.simulate.server import NOW_MS, Server

YEAR_MS: Final = 365 * 86_400_000

# By how much a clock is off: the edges of what a server believes, and more than anybody would.
OFFSETS_MS: Final = (0, 0, -1, 59_999, 60_000, 60_001, 61_000, 3_600_000, -3_600_000, -10 * YEAR_MS, 10 * YEAR_MS, 10)
RATES: Final = (1, 1, 1, 0.5, 2, 0, -1)  # right, slow, fast, frozen, running back


class Life:
    """An installation from its registration on, with its user's edits in the order in which they were made.

    is_cloned: its store was copied and goes on under the same replica, as no app should.
    is_cut: some of what it had not sent is lost.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.edits: list[Edit] = []
        self.is_cloned = False
        self.is_cut = False


class Edit:
    """What a user did, and what became of it: `effective` is its stamp on the server, 0 while nobody knows of one."""

    __slots__ = ("effective", "given", "increment", "is_told", "key", "life", "stamp", "status")

    def __init__(self, life: Life, key: tuple[str, str], given: Mapping[str, bytes], stamp: int) -> None:
        self.life = life
        self.key = key
        self.given = given
        self.stamp = stamp
        self.increment = 0
        self.status = "pending"
        self.effective = 0
        self.is_told = False


class Device:
    def __init__(self, index: int, device_id: str, clock: int) -> None:
        self.index = index
        self.replica = Replica(device_id, 0)
        self.life = Life(0)
        self.leaves_base_out = False
        self.flight: Flight | None = None
        self.kept: list[tuple[bytes, frozenset[str]]] = []  # backups of the phone, and what is damaged in them
        self.damaged: set[str] = set()  # collections of which the store lost or made up something
        self.set_clock(clock, NOW_MS)

    def __str__(self) -> str:
        return "ABC"[self.index]

    def set_clock(self, noise: int, server_ms: int) -> None:
        self._offset_ms = OFFSETS_MS[noise % len(OFFSETS_MS)]
        self._rate = RATES[noise // 16 % len(RATES)]
        self._set_at_ms = server_ms

    def now_ms(self, server_ms: int) -> int:
        passed_ms = server_ms - self._set_at_ms
        return max(1, int(self._set_at_ms + self._offset_ms + self._rate * passed_ms))

    def edit(self, collection: str, document: str, given: Mapping[str, Any], change_id: str, server_ms: int) -> Edit:
        stamp = self.replica.edit(collection, document, given, change_id=change_id, now_ms=self.now_ms(server_ms))
        made = {path: canonical(value) for path, value in given.items()}
        edit = Edit(self.life, (collection, document), made, stamp)
        self.life.edits.append(edit)
        return edit

    def request(self, *, limit: int, most_changes: int) -> dict[str, Any]:
        request = self.replica.request(limit=limit, most_changes=most_changes)
        if self.leaves_base_out:
            for change in request["changes"]:
                change.pop("base", None)
        return request

    def restart(self) -> None:
        """The process dies and comes back with what was committed, which is everything."""
        self.replica = Replica.restore(self.replica.snapshot())

    def own_total(self, collection: str, document: str, path: str) -> int:
        """The total that this device last wrote to its part of a counter, as far as it knows."""
        greatest = (0, 0)
        for registers in self.replica._states(Key(collection, document)):
            if path in registers:
                value = registers[path].value
                greatest = max(greatest, (registers[path].stamp, value if type(value) is int else 0))
        return greatest[1]

    def state(self) -> State:
        """What the server answered, comparable with the oracle's."""
        return {
            (key.collection, key.id): {
                path: (register.stamp, canonical(values.to_python(register.value)))
                for path, register in registers.items()
            }
            for key, registers in self.replica.answered.items()
            if registers
        }

    def damage(self, key: Key, how: int, path: int) -> bool:
        """Lose a register, a document, or make one up. False if there is nothing to damage."""
        held = self.replica.answered.get(key)
        if not held:
            return False
        if how % 3 == 0:
            del held[sorted(held)[path % len(held)]]
        elif how % 3 == 1:
            del self.replica.answered[key]
        else:
            name, made = sorted(held)[path % len(held)], f"made/{path % 2}"
            if made in held:  # with the same stamp it would be another value only, which no digest covers
                return False
            held[made] = held[name]
        self.damaged.add(key.collection)
        self.restart()  # sums are taken over what the store gives back
        return True

    def repair(self, server: Server, *, most_asks: int) -> None:
        """Ask for what differs, one request after another, until the replica wants no more."""
        for _ in range(most_asks):
            if self.replica.wants_to_repair:
                ask = self.replica.repair_request()
                self.replica.receive_repair(ask, server.serve_repair(ask.path, ask.body))
