"""Counts what clients do against the policies: in Redis for all processes together, in this one while Redis is away.

limits = limiter.of(address, device_cookie, https=…)      # of one request
await limits.require("login", typed_address)               # raises RateLimited
"""

import asyncio
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from fitness_api.limits import known_devices, policies
from fitness_api.limits.addresses import Network, blocks_of, is_within
from fitness_api.limits.buckets import Buckets, BucketsUnavailable, Charge
from fitness_api.limits.errors import LimitsUnavailable, RateLimited
from fitness_api.limits.gcra import Taken
from fitness_api.limits.known_devices import KnownDevice
from fitness_api.limits.policies import FLOWS, Outcome, Policy

# Tokens taken ahead are spent within this time or lost, so that none is given out on top of a bucket that is full again.
LEASE_WITHIN_S: Final = 10.0
# Leases, and refusals, some 300 bytes each; for what falls out Redis is asked again.
MAX_KEPT: Final = 50_000

_EVERYONE: Final = "everyone"

Wanted = tuple[str, Policy]
"""Whom a bucket is of, and the policy that it is counted by."""

# Asked one after another: who has used up his own quota does not use up everybody's as well.
_ORDER: Final = (("client", "network"), ("account", "device"), ("everyone",))


K = TypeVar("K")


class _Refusal(NamedTuple):
    cost: int
    until_s: float
    taken: Taken


@dataclass(slots=True)
class _Lease:
    """tokens: not given out yet. The rest is as of when it was taken."""

    tokens: int
    until_s: float
    remaining: int
    full_after_us: int


class Limiter:
    """`shared` is asked first, `local` while it cannot be."""

    def __init__(
        self,
        shared: Buckets,
        local: Buckets,
        *,
        master_key: bytes,
        shared_by_many: tuple[Network, ...] = (),
        unlimited: tuple[Network, ...] = (),
        table: Mapping[str, Sequence[Policy]] = FLOWS,
        now_s: Callable[[], float] = time.monotonic,
        wall_clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._shared = shared
        self._local = local
        self._key = hmac.digest(master_key, b"fitness-api limits v1", "sha256")
        self._device_key = known_devices.derive_key(master_key)
        self._shared_by_many = shared_by_many
        self._unlimited = unlimited
        self._table = table
        self._now_s = now_s
        self._wall_clock_s = wall_clock_s
        self._alone = {
            flow: rows[0]
            for flow, rows in table.items()
            if len(rows) == 1 and rows[0].by == "account" and rows[0].lease > 1
        }
        self._leases: OrderedDict[tuple[str, str], _Lease] = OrderedDict()
        self._leasing: dict[tuple[str, str], asyncio.Event] = {}
        self._refusals: OrderedDict[tuple[str, str], _Refusal] = OrderedDict()

    def of(self, address: str, *, device_cookie: str = "", https: bool = True) -> "Limits":
        device = None
        if device_cookie:
            device = known_devices.read(device_cookie, self._device_key, now_s=int(self._wall_clock_s()))
        return Limits(self, address, device, https=https)

    def is_unlimited(self, address: str) -> bool:
        return bool(self._unlimited) and is_within(address, self._unlimited)

    def is_shared_by_many(self, address: str) -> bool:
        """Whether so many people come from there that the address says nothing of any of them."""
        return bool(self._shared_by_many) and is_within(address, self._shared_by_many)

    def spend(self, flow: str, of: str, cost: int) -> Outcome | None:
        """Take from what is leased already, where a flow is counted by the account alone. None: ask `take`."""
        policy = self._alone.get(flow)
        lease = self._leases.get((of, policy.name)) if policy is not None else None
        if policy is None or lease is None or lease.tokens < cost or self._now_s() >= lease.until_s:
            return None
        lease.tokens -= cost
        return Outcome(policy, Taken(cost, lease.remaining + lease.tokens, 0, lease.full_after_us))

    def policies(self, flow: str) -> Sequence[Policy]:
        """Return those of a flow, or the one that `<flow>:<by>` names. Raises KeyError if there is none."""
        if ":" not in flow:
            return self._table[flow]
        return [next(policy for policy in self._table[flow.partition(":")[0]] if policy.name == flow)]

    def subject_digest(self, subject: str) -> bytes:
        return known_devices.subject_digest(subject, self._device_key)

    def cookie(self, subject: str, *, https: bool) -> str:
        device_id = secrets.token_bytes(known_devices.ID_BYTES)
        text = known_devices.mint(subject, device_id, self._device_key, now_s=int(self._wall_clock_s()))
        return known_devices.set_cookie(text, https=https)

    async def take(self, home: str, wanted: Sequence[Wanted], cost: int) -> list[Outcome]:
        """Take from each of them or, if one refuses, from none. Raises LimitsUnavailable.

        Nothing but a keyed digest of whom they are of leaves this process.
        """
        home = self._digest(home)
        charges = [Charge(home, self._digest(of), policy.name, policy.rate, cost, cost) for of, policy in wanted]
        counted = [policy for _, policy in wanted]
        if (refusals := self._known_refusals(charges, counted)) is not None:
            return refusals
        if all(policy.lease > 1 for policy in counted):
            # Each by itself: what is leased is counted loosely anyway.
            return [
                await self._take_leased((of, policy.name), charge, policy)
                for (of, policy), charge in zip(wanted, charges, strict=True)
            ]
        return await self._take(charges, counted)

    def _digest(self, name: str) -> str:
        return hmac.digest(self._key, name.encode("utf-8", "surrogatepass"), "sha256")[:16].hex()

    def _known_refusals(self, charges: Sequence[Charge], counted: Sequence[Policy]) -> list[Outcome] | None:
        """A bucket that refused goes on refusing until the instant that it named, whoever asks: so nobody needs to.

        Whoever floods is refused at the cost of a look into a dictionary.
        """
        now_s = self._now_s()
        for charge, policy in zip(charges, counted, strict=True):
            key = (charge.subject, policy.name)
            refusal = self._refusals.get(key)
            if refusal is None or charge.least < refusal.cost:
                continue
            if (left_us := int((refusal.until_s - now_s) * 1_000_000)) > 0:
                return [Outcome(policy, refusal.taken._replace(retry_after_us=left_us))]
            del self._refusals[key]
        return None

    async def _take_leased(self, key: tuple[str, str], charge: Charge, policy: Policy) -> Outcome:
        cost = charge.least
        while True:
            lease = self._leases.get(key)
            if lease is not None and lease.tokens >= cost and self._now_s() < lease.until_s:
                lease.tokens -= cost
                return Outcome(policy, Taken(cost, lease.remaining + lease.tokens, 0, lease.full_after_us))
            if (under_way := self._leasing.get(key)) is None:
                return await self._lease(key, charge, policy)
            # One at a time: leases that are taken at once would replace one another, and be lost.
            await under_way.wait()
            if (refusals := self._known_refusals([charge], [policy])) is not None:
                return refusals[0]

    async def _lease(self, key: tuple[str, str], charge: Charge, policy: Policy) -> Outcome:
        cost = charge.least
        done = self._leasing[key] = asyncio.Event()
        try:
            [outcome] = await self._take([charge._replace(wanted=max(cost, policy.lease))], [policy])
        finally:
            del self._leasing[key]
            done.set()
        spare = outcome.taken.granted - cost
        if spare < 0:
            return outcome
        remaining, full_after_us = outcome.taken.remaining, outcome.taken.full_after_us
        _keep(self._leases, key, _Lease(spare, self._now_s() + LEASE_WITHIN_S, remaining, full_after_us))
        return Outcome(policy, Taken(cost, remaining + spare, 0, full_after_us))

    async def _take(self, charges: Sequence[Charge], counted: Sequence[Policy]) -> list[Outcome]:
        try:
            taken = await self._shared.take(charges)
        except BucketsUnavailable:
            if any(policy.without_redis == "refuse" for policy in counted):
                raise LimitsUnavailable from None
            here = [charge._replace(rate=policy.rate_here) for charge, policy in zip(charges, counted, strict=True)]
            return [Outcome(policy, one) for policy, one in zip(counted, await self._local.take(here), strict=True)]
        for charge, policy, one in zip(charges, counted, taken, strict=True):
            if one.retry_after_us:
                until_s = self._now_s() + one.retry_after_us / 1_000_000
                _keep(self._refusals, (charge.subject, policy.name), _Refusal(charge.least, until_s, one))
        return [Outcome(policy, one) for policy, one in zip(counted, taken, strict=True)]


def _keep(kept: OrderedDict[tuple[str, str], K], key: tuple[str, str], value: K) -> None:
    """The latest used ones, MAX_KEPT at most."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > MAX_KEPT:
        kept.popitem(last=False)


class Limits:
    """One request's. `outcomes` is what was counted, for the answer's headers."""

    def __init__(self, limiter: Limiter, address: str, device: KnownDevice | None, *, https: bool) -> None:
        self._limiter = limiter
        self._address = address
        self._device = device
        self._https = https
        self._counted: set[tuple[str, str]] = set()
        self.outcomes: list[Outcome] = []

    @property
    def client_block(self) -> str:
        return blocks_of(self._address).client

    async def require(self, flow: str, subject: str | None = None, *, cost: int = 1) -> None:
        """Count one try, or `cost` of them, against all of the flow's policies; `<flow>:<by>` counts against that one.

        subject: whose account it is, or the address or code that was typed; without one the account's policy is left to whoever
        knows it, and what was counted then is not counted again. Raises RateLimited or LimitsUnavailable.
        """
        if self._limiter.is_unlimited(self._address):
            return
        typed = None if subject is None else subject.strip().casefold()
        if typed is not None and (outcome := self._limiter.spend(flow, typed, cost)) is not None:
            self.outcomes.append(outcome)
            return
        policies_by = {policy.by: policy for policy in self._limiter.policies(flow)}
        spares_known = any(policy.by == "device" for policy in self._limiter.policies(flow.partition(":")[0]))
        is_known = spares_known and self._is_known(typed)
        for group in _ORDER:
            wanted = [
                (of, policies_by[by])
                for by in group
                if by in policies_by and (of := self._counted_as(by, typed, is_known=is_known)) is not None
            ]
            wanted = [(of, policy) for of, policy in wanted if (of, policy.name) not in self._counted]
            if wanted:
                await self._take(blocks_of(self._address).network if "network" in group else wanted[0][0], wanted, cost)

    def knows(self, subject: str) -> bool:
        """Whether this device has logged in to the account of this address before."""
        return self._is_known(subject.strip().casefold())

    def remember(self, subject: str) -> dict[str, str]:
        """Return the header by which this device is known again as one that logged in to the account of this address."""
        if self.knows(subject):
            return {}
        return {"Set-Cookie": self._limiter.cookie(subject.strip().casefold(), https=self._https)}

    def headers(self) -> dict[str, str]:
        return policies.headers(self.outcomes)

    def _is_known(self, typed: str | None) -> bool:
        """Before the account is known, any device that logged in to one counts by itself; then only the account's own."""
        if self._device is None:
            return False
        return typed is None or hmac.compare_digest(self._device.subject_digest, self._limiter.subject_digest(typed))

    def _counted_as(self, by: str, typed: str | None, *, is_known: bool) -> str | None:
        """Return the name of the bucket's owner; None: this policy does not count this request."""
        match by:
            case "client" | "network" if self._limiter.is_shared_by_many(self._address):
                return None
            case "client":
                return None if is_known else blocks_of(self._address).client
            case "network":
                return blocks_of(self._address).network
            case "account":
                return None if is_known or typed is None else typed
            case "device":
                return self._device.device_id if is_known and self._device is not None else None
            case _:
                return None if is_known else _EVERYONE

    async def _take(self, home: str, wanted: Sequence[Wanted], cost: int) -> None:
        outcomes = await self._limiter.take(home, wanted, cost)
        self.outcomes += outcomes
        refused = [outcome for outcome in outcomes if outcome.taken.retry_after_us]
        if refused:
            raise RateLimited(retry_after_s=policies.retry_after_s(refused))
        self._counted.update((of, policy.name) for of, policy in wanted)
