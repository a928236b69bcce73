"""Devices of some accounts that write the same documents at once, over HTTP, through whatever happens to the servers.

    crowd = Crowd(urls, seed=1)
    await crowd.sign_up(accounts=2, devices=3)
    async with crowd.at_work():
        …                                   # faults
    for history in await crowd.at_rest(mongo_url): assert problems(history) == []

A device does what the section "A device" of docs/protocols/sync.md asks: it tries by level, not by edge, with growing pauses and
jitter, and no sooner than Retry-After.
"""

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
from pymongo.asynchronous.database import AsyncDatabase

from sync import clock, cursor
from sync.clock import Stamp
from sync.document import Key
from sync.replica import Register, Replica
from sync.schema import COLLECTIONS
from sync.store_mongo import RECORDS, MongoStore
from tests.faults.history import History, Made, RunEnd, Told, Version, digests
from tests.faults.servers import MASTER_KEY, database_at

CURSOR_KEY = cursor.derive_key(MASTER_KEY)
PASSWORD = "correct horse battery staple"

# A verdict on the protocol, and the one time that these tests measure: after a fault is over, every queue is empty so soon.
# It holds what a killed gateway's open transaction (15 s, looked for every 7.5 s) and an election cost.
DRAINED_WITHIN_S = 30
# The first of them may be to a request from before.
SERVED_ANSWERS = 5
# A gateway that tries again while its database is away makes a device wait: so long, where a round trip takes some 20 ms.
LONG_WAIT_S = 0.5
# Above a gateway's own bound for its database (10 s a statement): a device that gives up sooner only asks again.
REQUEST_TIMEOUT_S = 20
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
# Between round trips that succeed. Less would make two cores the fault.
LONGEST_REST_S = 0.03
# Far enough that every one of its stamps is replaced.
FAST_CLOCK_MS = 3_600_000


@dataclass
class Account:
    email: str
    keys: Sequence[Key]
    user_id: str = ""
    access_token: str = ""
    history: History = field(default_factory=History)


class Device:
    def __init__(
        self, crowd: "Crowd", account: Account, replica: Replica, dice: random.Random, *, ahead_ms: int
    ) -> None:
        self.account = account
        self.replica = replica
        self._crowd = crowd
        self._dice = dice
        self._ahead_ms = ahead_ms
        self._url = dice.choice(crowd.urls)
        self._edits = 0
        self._failures = 0
        self.answers = 0

    def edit(self) -> None:
        """Change some fields of one document, most of them to a value that no other change of the account has."""
        self._edits += 1
        replica, dice, n = self.replica, self._dice, self._edits
        key = dice.choice(self.account.keys)
        paths: list[tuple[str, Any]] = [
            ("notes", f"{replica.number}.{n}"),
            (f"sets/{dice.randrange(4)}/exercise", f"{replica.number}.{n} set"),
            (f"new/{dice.randrange(4)}", [replica.number, n]),
            ("tags/pr", dice.random() < 0.5),
            ("deleted", dice.random() < 0.1),
        ]
        given = dict(dice.sample(paths, dice.randint(1, 4)))
        if key.collection == "nutrition":
            given[f"water_ml/{replica.number}"] = n
        change_id = str(uuid.UUID(int=dice.getrandbits(128), version=4))
        now_ms = time.time_ns() // 1_000_000 + self._ahead_ms
        replica.edit(*key, given, change_id=change_id, now_ms=now_ms)
        unsent = replica.unsent[change_id]
        self.account.history.made[change_id] = Made(replica.number, key, unsent.stamp, unsent.values)

    async def work(self, until: asyncio.Event) -> None:
        """Edit and sync, on- or offline alike."""
        while not until.is_set():
            for _ in range(self._dice.choice([0, 1, 1, 1, 2, 3, 30])):
                self.edit()
            await asyncio.sleep(await self.attempt())

    async def drain(self) -> None:
        while self.replica.wants_to_sync:
            await asyncio.sleep(await self.attempt())

    async def catch_up(self) -> None:
        """Go on until an answer came and the run has ended."""
        answers = self.answers
        while self.answers == answers or self.replica.wants_to_sync:
            await asyncio.sleep(await self.attempt())

    async def attempt(self) -> float:
        """One request. Return how long to wait before the next."""
        request = self.replica.request(
            limit=self._dice.choice([2, 50, 500]), most_changes=self._dice.choice([1, 20, 200])
        )
        response, retry_after_s = await self._crowd.post(self._url, self.account, request)
        if response is None:
            self._url = self._dice.choice(self._crowd.urls)
            longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._failures)
            self._failures += 1
            return retry_after_s + self._dice.uniform(0, longest_s)
        self._failures = 0
        self.answers += 1
        self._take(request, response)
        return float(response["limits"]["next_sync_after_s"]) + self._dice.uniform(0, LONGEST_REST_S)

    def _take(self, request: Mapping[str, Any], response: Mapping[str, Any]) -> None:
        history = self.account.history
        assert not response["reset"]
        for sent, result in zip(request["changes"], response["results"], strict=True):
            stamp = clock.from_wire(result.get("stamp", sent["stamp"]))
            assert stamp is not None
            history.told.append(Told(sent["id"], result["status"], stamp))
        self.replica.receive(request, response)
        if not response["more"]:
            presented = cursor.decode(response["cursor"], key=CURSOR_KEY, user_id=self.account.user_id)
            assert presented is not None
            [at] = {place.at for place in presented.places}
            own = digests(self.replica.answered)
            history.run_ends.append(RunEnd(self.replica.number, at, own, response["digests"]))


class Crowd:
    """`failures` counts the requests that got no answer, or none that helped, by what happened to them."""

    def __init__(self, urls: Sequence[str], *, seed: int) -> None:
        self.urls = urls
        self.accounts: list[Account] = []
        self.devices: list[Device] = []
        self.answered = 0
        self.failures: Counter[str] = Counter()
        self.in_flight: Counter[str] = Counter()
        self.longest_wait_s = 0.0
        self._dice = random.Random(seed)
        self._stack = AsyncExitStack()
        self._http: httpx.AsyncClient

    async def __aenter__(self) -> Self:
        limits = httpx.Limits(max_connections=None)
        http = httpx.AsyncClient(trust_env=False, timeout=REQUEST_TIMEOUT_S, limits=limits)
        self._http = await self._stack.enter_async_context(http)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def sign_up(self, *, accounts: int, devices: int) -> None:
        """The last device of each account has a clock that is an hour ahead."""
        for number in range(accounts):
            keys = [Key(("workouts", "nutrition")[n % 2], str(uuid.uuid4())) for n in range(6)]
            account = Account(f"{number}-{uuid.uuid4()}@example.org", keys)
            await self._authenticate(account, "register")
            profile = await self._ask("GET", "/v1/me", headers=_bearer(account))
            account.user_id = profile["user_id"]
            self.accounts.append(account)
            for n in range(devices):
                replica = await self._registered(account)
                ahead_ms = FAST_CLOCK_MS if n == devices - 1 else 0
                dice = random.Random(self._dice.getrandbits(32))
                self.devices.append(Device(self, account, replica, dice, ahead_ms=ahead_ms))

    async def _authenticate(self, account: Account, how: str) -> None:
        credentials = {"email": account.email, "password": PASSWORD}
        pair = await self._ask("POST", f"/v1/auth/{how}", json=credentials)
        account.access_token = pair["access_token"]

    async def _registered(self, account: Account) -> Replica:
        installation = {"installation_id": str(uuid.uuid4()), "platform": "watchos", "app_version": "1"}
        device = await self._ask("POST", "/v1/devices", json=installation, headers=_bearer(account))
        return Replica(device["device_id"], device["replica"])

    async def _ask(self, method: str, path: str, **request: Any) -> Mapping[str, Any]:
        """What is not sync, until it succeeds."""
        while True:
            try:
                answer = await self._http.request(method, self._dice.choice(self.urls) + path, **request)
            except httpx.TransportError:
                await asyncio.sleep(FIRST_PAUSE_S)
                continue
            if answer.status_code not in (429, 503):
                assert answer.is_success, answer.text
                body: Mapping[str, Any] = answer.json()
                return body
            await asyncio.sleep(float(answer.headers["retry-after"]))

    async def post(
        self, url: str, account: Account, request: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any] | None, float]:
        """Return the answer, or None and how long the server asks to be left alone."""
        is_upload = bool(request["changes"])
        self.in_flight[url] += is_upload
        began_s = time.monotonic()
        try:
            answer = await self._http.post(f"{url}/v1/sync", json=request, headers=_bearer(account))
            if answer.status_code == 401:
                self.failures["401"] += 1
                await self._authenticate(account, "login")
                return None, 0.0
        except httpx.TransportError as error:
            self.failures[type(error).__name__] += 1
            return None, 0.0
        finally:
            self.in_flight[url] -= is_upload
        if answer.status_code == 200:
            self.answered += 1
            self.longest_wait_s = max(self.longest_wait_s, time.monotonic() - began_s)
            response: Mapping[str, Any] = answer.json()
            return response, 0.0
        self.failures[str(answer.status_code)] += 1
        # Whatever a fault does to the servers, a device that keeps to the protocol is told to come again, and nothing else.
        assert answer.status_code in (429, 503), answer.text
        return None, float(answer.headers["retry-after"])

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """What goes wrong in a device ends the block at once."""
        is_over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for device in self.devices:
                tasks.create_task(device.work(is_over))
            yield
            is_over.set()

    async def uploading(self, url: str | None = None) -> None:
        """Returns while that gateway, or any, has an upload to answer, somewhere in the middle of it."""
        while True:
            await asyncio.sleep(self._dice.uniform(0, LONGEST_REST_S))
            if self.in_flight.total() if url is None else self.in_flight[url]:
                return

    async def is_served(self) -> None:
        """Returns when each device was answered a few times more. Raises TimeoutError."""
        enough = {device: device.answers + SERVED_ANSWERS for device in self.devices}
        async with asyncio.timeout(DRAINED_WITHIN_S):
            while any(device.answers < count for device, count in enough.items()):
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def bitten(self) -> AsyncIterator[None]:
        """What is done in the block has to cost some device a request, or to keep one waiting, or else it was no fault."""
        failures = self.failures.total()
        self.longest_wait_s = 0.0
        yield
        assert self.failures.total() > failures or self.longest_wait_s > LONG_WAIT_S

    async def at_rest(self, mongo_url: str) -> list[History]:
        """Empty every queue, have each device hear what the others sent, and return what happened.

        A device of its own joins each account at the end and reads a snapshot. Raises TimeoutError if a queue stays full.
        """
        async with asyncio.timeout(DRAINED_WITHIN_S):
            await asyncio.gather(*(device.drain() for device in self.devices))
        for account in self.accounts:
            replica = await self._registered(account)
            self.devices.append(Device(self, account, replica, self._dice, ahead_ms=0))
        await asyncio.gather(*(device.catch_up() for device in self.devices))
        for device in self.devices:
            assert not device.replica.wants_to_repair, "a device's own digests differ from the server's"
            held = {key: dict(registers) for key, registers in device.replica.answered.items()}
            device.account.history.held[device.replica.number] = held
        async with database_at(mongo_url) as database:
            for account in self.accounts:
                await _read(database, account)
        return [account.history for account in self.accounts]

    def record(self, record_property: Any) -> None:
        """What a run was like, in the report of its test."""
        record_property("changes", sum(len(account.history.made) for account in self.accounts))
        record_property("answered", self.answered)
        record_property("failures", dict(self.failures))


def _bearer(account: Account) -> dict[str, str]:
    return {"Authorization": f"Bearer {account.access_token}"}


async def _read(database: AsyncDatabase[dict[str, Any]], account: Account) -> None:
    """The database's side of an account's history: from the log that its nodes replicate by, and as it is now."""
    history = account.history
    head = await MongoStore(database).head(account.user_id)
    assert head is not None
    history.newest = head.seq
    found = database[RECORDS].find({"user_id": account.user_id})
    stored = [_version(record) async for record in found if _is_document(record)]
    history.stored = {version.key: version.registers for version in stored}
    async for transaction in _committed(database):
        mine = [_version(one) for one in transaction if one["user_id"] == account.user_id and _is_document(one)]
        # Of one transaction nobody sees a part, so that its own order is its own affair.
        history.versions += sorted(mine, key=lambda version: version.seq)


async def _committed(database: AsyncDatabase[dict[str, Any]]) -> AsyncIterator[list[dict[str, Any]]]:
    """Every record of sync as it was inserted or replaced, since the collection was made, by transaction, in the order of the commits."""
    latest: tuple[Any, Any] | None = None
    records: list[dict[str, Any]] = []
    mark = str(uuid.uuid4())
    await database["marks"].insert_one({"_id": mark})
    first = await database.client.local["oplog.rs"].find_one({}, sort=[("$natural", 1)])
    assert first is not None
    async with await database.watch(start_at_operation_time=first["ts"]) as changes:
        async for change in changes:
            if change["ns"].get("coll") == "marks" and change["documentKey"]["_id"] == mark:
                yield records
                return
            if change["ns"].get("coll") != RECORDS:
                continue
            is_whole = change["operationType"] in ("insert", "replace")
            # An update tells what it changed only. The store inserts documents or replaces them; what it may update is the head.
            assert is_whole or change["operationType"] == "delete" or not _is_document(change["documentKey"]), change
            transaction = (change.get("lsid", {}).get("id"), change.get("txnNumber"))
            if transaction != latest:
                yield records
                latest, records = transaction, []
            if is_whole:
                records.append(change["fullDocument"])


def _is_document(record: Mapping[str, Any]) -> bool:
    """By the form of its name: an account's head, its stamps and the like are records too."""
    parts = record["_id"].split("/")
    return len(parts) == 3 and parts[1] in COLLECTIONS


def _version(record: Mapping[str, Any]) -> Version:
    usual = record["stamps"][""]
    marks = {path: record["stamps"].get(path, usual) for path in record["value"]}
    registers = {path: Register(value, Stamp(int(marks[path][0]))) for path, value in record["value"].items()}
    return Version(record["seq"], Key(record["collection"], record["id"]), registers)
