"""One device of the fleet with the person who uses it: edits at any time, and whatever goes wrong with it."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final
from uuid import UUID

import httpx

from fitness_api.fleet import faults
from fitness_api.fleet.device_http import DeviceHttp, Exchange, Login
from fitness_api.fleet.faults import Fault, FaultyTransport
from fitness_api.fleet.verdict import Done, Settled
from sync.changes import Format
from sync.conversation import RESETS_A_DAY, Conversation, Wait
from sync.document import Key
from sync.replica import Replica

# A person at work; a fleet of some dozens makes a hundred edits a second.
EDIT_EVERY_S: Final = 0.3
# Of turns between two edits, in which a store is corrupted, a cursor is another server's, a clock is set.
_CHANCE: Final = 0.02
# How long a device is on or off line in one go, at most.
_LONGEST_SPELL_S: Final = 4.0
# Few enough that the devices of an account meet in them.
_DOCUMENTS: Final = 12


class Member:
    """`online` and `faults` may change at any time; `met` counts the faults that happened."""

    def __init__(
        self,
        name: str,
        http: httpx.AsyncClient,
        transport: FaultyTransport,
        login: Login,
        registration: Mapping[str, Any],
        replica: Replica,
        *,
        shared: list[Key],
        met: Counter[str],
        note: Callable[[Exchange], None],
        dice: Random,
        body_format: Format,
    ) -> None:
        self.name = name
        self.edits = 0
        self.is_online = True
        self.faults: frozenset[Fault] = frozenset()
        self._http = http
        self._transport = transport
        self._login = login
        self._registration = registration
        self._shared = shared
        self._met = met
        self._note = note
        self._dice = dice
        self._format: Format = body_format
        self._clock_error_ms = 0
        self._resets = 0
        self._made: set[Key] = set()
        self._totals: dict[tuple[Key, str], int] = {}
        self._store = replica.snapshot()
        self._device = self._started(replica)

    @property
    def replica(self) -> Replica:
        return self._device.conversation.replica

    async def live(self, until_s: float, *, offline: float) -> None:
        """Use the device until then (of the event loop's clock), being offline for this share of the time."""
        loop = asyncio.get_running_loop()
        spell_ends_s = 0.0
        while (now_s := loop.time()) < until_s:
            if now_s >= spell_ends_s:
                spell_ends_s = now_s + self._dice.random() * _LONGEST_SPELL_S
                self._go_online(is_online=self._dice.random() >= offline)
            self._edit()
            self._suffer()
            turn_ends_s = min(now_s + self._dice.expovariate(1 / EDIT_EVERY_S), until_s)
            if self.is_online:
                await self._sync_until(turn_ends_s)
            await asyncio.sleep(max(0.0, turn_ends_s - loop.time()))

    async def settle(self) -> None:
        """Say and hear everything, without faults. May be done again, when another device had more to say."""
        self.faults = self._transport.faults = frozenset()
        self._go_online(is_online=True)
        self._device.conversation.look()
        await self._device.until_rest()

    def settled(self) -> Settled:
        stopped = self._device.conversation.stopped
        return Settled(self.name, self.replica, stopped, Done(self._made, self._totals))

    def begin_faults(self, some: frozenset[Fault]) -> None:
        self.faults = self._transport.faults = some

    def _go_online(self, *, is_online: bool) -> None:
        if is_online and not self.is_online:
            self._device.conversation.go_on()  # as an app does when the system says that there is a network again
        self.is_online = is_online

    async def _sync_until(self, until_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._device.conversation.look()
        while (left_s := until_s - loop.time()) > 0:
            dies_in_s = self._dice.random() * 0.1 if self._happens("crash") else None
            try:
                async with asyncio.timeout(dies_in_s):
                    wait = await self._device.step()
            except TimeoutError:
                self._restart()
                continue
            if isinstance(wait, Wait):
                wait_s = max(0.0, wait.until_ms / 1000 - time.monotonic())
                await asyncio.sleep(min(wait_s, left_s))

    def _edit(self) -> None:
        key, given = self._something()
        replica = self.replica
        change_id = str(UUID(int=self._dice.getrandbits(128), version=4))
        replica.edit(*key, given, change_id=change_id, now_ms=self._wall_ms())
        self._store = replica.snapshot()
        self.edits += 1

    def _something(self) -> tuple[Key, dict[str, Any]]:
        dice, number = self._dice, self.replica.number
        if len(self._shared) < _DOCUMENTS or dice.random() < 0.02:
            key = Key(dice.choice(("workouts", "nutrition")), str(UUID(int=dice.getrandbits(128), version=4)))
            self._shared.append(key)
            self._made.add(key)
            return key, {"notes": f"made by {self.name}"}
        key = dice.choice(self._shared)
        if key.collection == "nutrition" and dice.random() < 0.5:
            path = f"water_ml/{number}"
            total = self._totals.get((key, path), 0) + 250
            self._totals[key, path] = total
            return key, {path: total}
        child = f"{dice.randrange(3)}"
        things: list[dict[str, Any]] = [
            {"notes": f"{self.name} {self.edits}"},
            {"rpe": dice.randrange(11), "title": f"{self.name} {self.edits}"},
            {f"tags/{child}": dice.random() < 0.5},
            {f"sets/{child}/reps": dice.randrange(20), f"sets/{child}/pos": f"a{dice.randrange(9)}"},
            {"deleted": dice.random() < 0.5},
            {"a newer app's field": [self.edits, {"by": self.name}]},
        ]
        if key.collection == "nutrition":
            things[3] = {f"meals/{child}/energy_kcal": dice.randrange(900)}
        return key, dice.choice(things)

    def _suffer(self) -> None:
        if self._happens("clock"):
            self._clock_error_ms = self._dice.choice(faults.CLOCK_ERRORS_MS)
        if self._happens("corrupt"):
            self._store = faults.corrupted(self._store, self._dice)
            self._restart()
        if self._resets < RESETS_A_DAY and self.replica.cursor and self._happens("reset"):
            self._resets += 1
            self.replica.cursor = "of-another-server"
            self._store = self.replica.snapshot()

    def _happens(self, fault: Fault) -> bool:
        if fault not in self.faults or self._dice.random() >= _CHANCE:
            return False
        self._met[fault] += 1
        return True

    def _restart(self) -> None:
        """The process is gone, and what it held in memory; the store is what was committed last."""
        self._device = self._started(Replica.restore(self._store))

    def _started(self, replica: Replica) -> DeviceHttp:
        return DeviceHttp(
            self._http,
            self._login,
            Conversation(replica, self._registration),
            commit=self._commit,
            note=self._note,
            wall_ms=self._wall_ms,
            dice=self._dice,
            body_format=self._format,
        )

    def _commit(self, snapshot: bytes) -> None:
        self._store = snapshot

    def _wall_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self._clock_error_ms
