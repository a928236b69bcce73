"""A fleet's life: accounts and devices are made, live under faults, heal, settle, and are compared."""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

import httpx

from fitness_api.fleet import verdict
from fitness_api.fleet.device_http import TIMEOUT_S, Exchange, log_in, register, sign_up
from fitness_api.fleet.faults import Fault, FaultyTransport
from fitness_api.fleet.member import Member
from sync.document import Key

_PLATFORMS = ("ios", "android", "watchos", "wearos", "web")

# Sign-ups at once; passwords are hashed on purpose slowly.
_AT_ONCE = 4

# After the faults: a fleet whose queues are not empty then has a queue that does not drain.
SETTLES_WITHIN_S = 60
# What one device uploads last the others have yet to hear, and a repair that this makes them start is its own round.
_ROUNDS = 10


@dataclass(frozen=True, kw_only=True)
class Plan:
    url: str
    devices: int
    accounts: int
    minutes: float
    offline: float
    faults: frozenset[Fault]
    seed: int


@dataclass
class Fleet:
    """`accounts` holds the devices of each account."""

    accounts: list[list[Member]] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    met: Counter[str] = field(default_factory=Counter)

    @property
    def members(self) -> list[Member]:
        return [member for devices in self.accounts for member in devices]

    @property
    def edits(self) -> int:
        return sum(member.edits for member in self.members)


Make = Callable[[], httpx.AsyncBaseTransport]


@contextlib.asynccontextmanager
async def enrolled(plan: Plan, make_transport: Make = httpx.AsyncHTTPTransport) -> AsyncIterator[Fleet]:
    """Give the fleet, signed up and registered. Raises EnrolmentRefused."""
    fleet = Fleet(accounts=[[] for _ in range(plan.accounts)])
    dice = Random(plan.seed)
    gate = asyncio.Semaphore(_AT_ONCE)
    sizes = [len(range(number, plan.devices, plan.accounts)) for number in range(plan.accounts)]
    async with contextlib.AsyncExitStack() as clients:

        async def enrol(account: int, size: int, seed: int) -> None:
            async with gate:
                await _account(plan, fleet, account, size, Random(seed), clients, make_transport)

        # Not in a task group, whose errors come in groups: the first refusal is what the terminal is told.
        await asyncio.gather(*(enrol(number, size, dice.getrandbits(64)) for number, size in enumerate(sizes)))
        yield fleet


async def _account(
    plan: Plan, fleet: Fleet, account: int, size: int, dice: Random, clients: contextlib.AsyncExitStack, make: Make
) -> None:
    # Not from the dice: an address is taken once, and the same seed should run twice.
    email, password = f"fleet-{secrets.token_hex(8)}@example.com", secrets.token_urlsafe(18)
    shared: list[Key] = []
    for number in range(size):
        transport = FaultyTransport(make(), frozenset(), dice, fleet.met)
        http = await clients.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url=plan.url, timeout=TIMEOUT_S)
        )
        login = await (log_in if number else sign_up)(http, email, password)
        registration = {
            "installation_id": str(UUID(bytes=secrets.token_bytes(16), version=4)),
            "platform": _PLATFORMS[number % len(_PLATFORMS)],
            "app_version": "1.0",
        }
        replica = await register(http, login, registration)
        member = Member(
            f"{account + 1}.{number + 1}",
            http,
            transport,
            login,
            registration,
            replica,
            shared=shared,
            met=fleet.met,
            note=fleet.exchanges.append,
            dice=Random(dice.getrandbits(64)),
            body_format="msgpack" if number % 2 else "json",
        )
        fleet.accounts[account].append(member)


async def live(fleet: Fleet, plan: Plan) -> None:
    until_s = asyncio.get_running_loop().time() + plan.minutes * 60
    for member in fleet.members:
        member.begin_faults(plan.faults)
    async with asyncio.TaskGroup() as tasks:
        for member in fleet.members:
            tasks.create_task(member.live(until_s, offline=plan.offline))


async def settle(fleet: Fleet, within_s: float = SETTLES_WITHIN_S) -> Sequence[str]:
    """Let the fleet settle without faults. Return what is wrong with it then; nothing if all is well."""
    found: Sequence[str] = ()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            for _ in range(_ROUNDS):
                await asyncio.gather(*(member.settle() for member in fleet.members))
                found = _problems(fleet)
                if not found:
                    return ()
            return found
    return [f"The queues did not drain in {within_s} s.", *_problems(fleet)]


def _problems(fleet: Fleet) -> list[str]:
    found = verdict.problems([[member.settled() for member in devices] for devices in fleet.accounts])
    repairs = sum(one.kind == "digest" for one in fleet.exchanges)
    if repairs and not fleet.met["corrupt"]:
        # They end alike all the same, but what was mended is a defect: of a delta that missed something, or of the sums.
        found.append(f"{repairs} repairs, though no store was corrupted")
    return found
