"""Some devices, one server, a network between them; and everything that comes or is held is looked at on the way.

At every end of a run the device's answered part must be the oracle's state at its cursor. In the end, when nothing fails any more,
all must come to rest in a bounded number of turns, alike, with nothing lost.
"""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from sync.changes import Format
from sync.errors import StoreUnavailable, UnknownDevice
from tests.simulate import verdict
from tests.simulate.device import Device, Edit, Life
from tests.simulate.flight import Flight
from tests.simulate.oracle import DAY_MS, Wrong
from tests.simulate.plan import Plan
from tests.simulate.server import Server, decoded, encoded

SUBSETS: Final = (("workouts",), ("nutrition",), ("workouts", "nutrition"), None, ("workouts", "of a newer app"), ())
LIMITS: Final = (500, 1, 2, 500)
FORMATS: Final[tuple[Format, ...]] = ("json", "msgpack")

# Round trips in which a device must be content: its queue, a page for each document, twice over after a reset or a repair.
_MOST_TRIPS: Final = 60
# Requests that one repair may take: its digests, and two pages of a part for each document.
_MOST_ASKS: Final = 10
# Rounds of all devices in which nothing may be left to do.
_MOST_ROUNDS: Final = 8


class World:
    def __init__(self, plan: Plan, say: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self._say = say
        self.server = Server(plan.seed, max_paths=plan.max_paths)
        self.edits: dict[str, Edit] = {}
        self.lives: list[Life] = []
        self.ghosts: list[Flight] = []
        self.sent: list[Flight] = []
        self.moved_collections = False
        self.had_damage = False
        self.ids = 0
        self.trips = 0
        self.hash = hashlib.sha256()
        self.devices = [self.new_device(index) for index in range(plan.devices)]
        for index, device in enumerate(self.devices):
            if plan.subsets >> index & 1:
                device.replica.collections = SUBSETS[index % 2]
            device.leaves_base_out = bool(plan.baseless >> index & 1)

    def begin(self) -> None:
        for device in self.devices:
            self.register(device)

    def edit(self, device: Device, key: tuple[str, str], given: Mapping[str, Any], increment: int = 0) -> None:
        change_id = self.new_id()
        edit = device.edit(*key, given, change_id, self.server.now_ms)
        edit.increment = increment
        self.edits[change_id] = edit
        self.say("{} edits {}/{} {} @{:x}", device, key[0], key[1][-1], given, edit.stamp)

    def send(self, device: Device, manner: int = 0, faults: Mapping[int, str] = MappingProxyType({})) -> Flight:
        """Have a request sent. `manner`: its limit, its number of changes, and both formats."""
        self.let_go(device)
        request = device.request(limit=LIMITS[manner % 4], most_changes=(200, 1, 2, 200)[manner // 4 % 4])
        received, answered = FORMATS[manner // 16 % 2], FORMATS[manner // 32 % 2]
        flight = device.flight = Flight(encoded(request, received), request, received, answered, faults)
        self.hash.update(flight.body)
        self.sent.append(flight)
        self.server.serve(flight)
        self.say(
            "{} asks with {} changes, limit {}, {} {}",
            device, len(request["changes"]), request["limit"], received, dict(faults) or "",
        )  # fmt: skip
        return flight

    def step(self, device: Device, stops: int) -> None:
        """Have the request under way served for so many awaits; what is finished is received."""
        if device.flight is None:
            return
        self.server.go_on(device.flight, stops)
        self.say("{}'s request goes on for {} stops", device, stops)
        if device.flight.serving.is_done:
            self.receive(device)

    def let_go(self, device: Device) -> None:
        """The device waits no longer; the server goes on."""
        if device.flight is not None:
            self.say("{} waits no longer", device)
            self.ghosts.append(device.flight)
            device.flight = None

    def kill_all(self) -> None:
        """No request that is under way is served any more."""
        for flight in [*self.ghosts, *(device.flight for device in self.devices if device.flight is not None)]:
            flight.serving.kill()
        self.ghosts.clear()
        for device in self.devices:
            device.flight = None

    def receive(self, device: Device) -> bool:
        """Take what was answered. False if that was a refusal, or nothing."""
        flight, device.flight = device.flight, None
        if flight is None:
            return False
        error = flight.serving.error
        self.trips += 1
        if isinstance(error, UnknownDevice):
            self.say("  unknown device")
            self.register_anew(device)
            return False
        if isinstance(error, StoreUnavailable):
            self.say("  unavailable")
            return False
        if flight.serving.result is None:
            raise Wrong("the server answered nothing")
        answer = decoded(flight.serving.result, flight.answered)
        self.say("  {}", Short(answer))
        self.hash.update(flight.serving.result)
        verdict.check_answer(self.server, flight, answer)
        device.replica.receive(flight.sent, answer)
        for sent, result in zip(flight.sent["changes"], answer["results"], strict=True):
            if sent["id"] in self.edits:
                self.told(sent["id"], result)
        if not answer["more"]:
            verdict.check_cursor(self.server, device, answer)
        return True

    def told(self, change_id: str, result: Mapping[str, Any]) -> None:
        edit = self.edits[change_id]
        edit.is_told = True
        edit.status = "rejected" if result["status"] == "rejected" else "accepted"
        edit.effective = int(result["stamp"], 16) if "stamp" in result else edit.stamp

    def drain(self, device: Device, manner: int) -> None:
        """Round trips until the device is content. Raises Wrong if it never is."""
        for _ in range(_MOST_TRIPS):
            flight = self.send(device, manner)
            self.server.go_on(flight)
            is_answered = self.receive(device)
            device.repair(self.server, most_asks=_MOST_ASKS)
            if is_answered and not device.replica.wants_to_sync and not device.replica.wants_to_repair:
                return
        raise Wrong(f"{device} is never content")

    def heal(self) -> None:
        self.say("nothing fails any more")
        for flight in self.ghosts:
            if not flight.serving.is_done:
                self.server.go_on(flight)
        self.settle()
        if self.plan.ends_with_purge:
            # Installations that are gone hold up nothing after half a year; the others learn of each deletion in two days.
            for wait_ms in (200 * DAY_MS, 31 * DAY_MS, DAY_MS, DAY_MS):
                self.server.now_ms += wait_ms
                self.settle()
        verdict.check_end(self)

    def settle(self) -> None:
        for _ in range(_MOST_ROUNDS):
            before = self.server.oracle.seq
            for device in self.devices:
                self.drain(device, 0)
            if self.server.oracle.seq == before:
                return
        raise Wrong("the devices never come to rest")

    def device(self, who: int) -> Device:
        return self.devices[who % len(self.devices)]

    def new_id(self) -> str:
        self.ids += 1
        return f"{self.ids:08x}-0000-4000-8000-000000000000"

    def new_device(self, index: int) -> Device:
        return Device(index, self.new_id(), self.plan.clocks[index])

    def register(self, device: Device, device_id: str | None = None) -> None:
        """Register an installation, or the same one again under a new name."""
        device_id = device_id or device.replica.device_id
        device.replica.registered(device_id, self.server.register(device_id))
        device.life = Life(device.replica.number)
        self.lives.append(device.life)

    def register_anew(self, device: Device) -> None:
        self.register(device, self.new_id())

    def say(self, text: str, *what: object) -> None:
        if self._say is not None:
            self._say(text.format(*what))


class Short(NamedTuple):
    """An answer as a trace shows it; most are never shown."""

    answer: Mapping[str, Any]

    def __str__(self) -> str:
        results = [result["status"] for result in self.answer["results"]]
        documents = [
            f"{one['id'][-1]}@{one['seq']}{'!' if one.get('purged') else ''}" for one in self.answer["documents"]
        ]
        flags = " ".join(flag for flag in ("more", "reset") if self.answer[flag])
        return f"{results} {documents} {flags}"

    def __format__(self, _: str) -> str:
        return str(self)
