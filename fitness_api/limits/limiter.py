"""Counts what clients do against the policies: in Redis for all processes together, in this one while Redis is away.

    limits = limiter.of(address, device_cookie, https=…)      # of one request
    await limits.require("login", typed_address)               # raises RateLimited
"""

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from fitness_api.limits import known_devices, policies
from fitness_api.limits.addresses import Network, blocks_of, is_within
from fitness_api.limits.buckets import Buckets, BucketsUnavailable, Charge
from fitness_api.limits.errors import LimitsUnavailable, RateLimited
from fitness_api.limits.gcra import Taken
from fitness_api.limits.known_devices import KnownDevice
from fitness_api.limits.policies import FLOWS, Outcome, Policy

# Tokens taken ahead are spent within this time or lost, so that none is given out on top of a bucket that is full again.
LEASE_WITHIN_S: Final = 10.0
# Some 200 bytes each; who falls out takes a new lease.
MAX_LEASES: Final = 50_000

_EVERYONE: Final = "everyone"

Wanted = tuple[str, Policy]
"""Whom a bucket is of, and the policy that it is counted by."""

# Asked one after another: who has used up his own quota does not use up everybody's as well.
_ORDER: Final = (("client", "network"), ("account", "device"), ("everyone",))

class _Lease(NamedTuple):
    tokens: int
    until_s: float
    taken: Taken


class Limiter:
    """`shared` is asked first, `local` while it cannot be."""

    def __init__(
        self,
        shared: Buckets,
        local: Buckets,
        *,
        master_key: bytes,
        unlimited: Sequence[Network] = (),
        table: Mapping[str, Sequence[Policy]] = FLOWS,
        now_s: Callable[[], float] = time.monotonic,
        wall_clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._shared = shared
        self._local = local
        self._key = hmac.digest(master_key, b"fitness-api limits v1", "sha256")
        self._device_key = known_devices.derive_key(master_key)
        self._unlimited = unlimited
        self._table = table
        self._now_s = now_s
        self._wall_clock_s = wall_clock_s
        self._leases: OrderedDict[tuple[str, str], _Lease] = OrderedDict()

    def of(self, address: str, *, device_cookie: str = "", https: bool = True) -> "Limits":
        device = None
        if device_cookie:
            device = known_devices.read(device_cookie, self._device_key, now_s=int(self._wall_clock_s()))
        return Limits(self, address, device, is_unlimited=is_within(address, self._unlimited), https=https)

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
        if all(policy.lease > 1 for _, policy in wanted):
            # Each by itself: what is leased is counted loosely anyway.
            return [await self._take_leased(home, self._digest(of), policy, cost) for of, policy in wanted]
        charges = [Charge(home, self._digest(of), policy.name, policy.rate, cost, cost) for of, policy in wanted]
        return await self._take(charges, [policy for _, policy in wanted])

    def _digest(self, name: str) -> str:
        return hmac.digest(self._key, name.encode("utf-8", "surrogatepass"), "sha256")[:16].hex()

    async def _take_leased(self, home: str, of: str, policy: Policy, cost: int) -> Outcome:
        key = (of, policy.name)
        now_s = self._now_s()
        lease = self._leases.get(key)
        if lease is not None and lease.tokens >= cost and now_s < lease.until_s:
            self._keep(key, lease._replace(tokens=lease.tokens - cost))
            return Outcome(policy, lease.taken._replace(remaining=lease.taken.remaining + lease.tokens - cost))
        charge = Charge(home, of, policy.name, policy.rate, cost, max(cost, policy.lease))
        [outcome] = await self._take([charge], [policy])
        spare = outcome.taken.granted - cost
        if spare >= 0:
            # What another request of the same client left over here meanwhile is given up, never counted twice.
            self._keep(key, _Lease(spare, now_s + LEASE_WITHIN_S, outcome.taken))
            return Outcome(policy, outcome.taken._replace(remaining=outcome.taken.remaining + spare))
        return outcome

    def _keep(self, key: tuple[str, str], lease: _Lease) -> None:
        self._leases[key] = lease
        self._leases.move_to_end(key)
        if len(self._leases) > MAX_LEASES:
            self._leases.popitem(last=False)

    async def _take(self, charges: Sequence[Charge], counted: Sequence[Policy]) -> list[Outcome]:
        try:
            taken = await self._shared.take(charges)
        except BucketsUnavailable:
            if any(policy.without_redis == "refuse" for policy in counted):
                raise LimitsUnavailable from None
            here = [charge._replace(rate=policy.rate_here) for charge, policy in zip(charges, counted, strict=True)]
            taken = await self._local.take(here)
        return [Outcome(policy, one) for policy, one in zip(counted, taken, strict=True)]


class Limits:
    """One request's. `outcomes` is what was counted, for the answer's headers."""

    def __init__(
        self, limiter: Limiter, address: str, device: KnownDevice | None, *, is_unlimited: bool, https: bool
    ) -> None:
        self._limiter = limiter
        self._blocks = blocks_of(address)
        self._device = device
        self._is_unlimited = is_unlimited
        self._https = https
        self._counted: set[tuple[str, str]] = set()
        self.outcomes: list[Outcome] = []

    @property
    def client_block(self) -> str:
        return self._blocks.client

    async def require(self, flow: str, subject: str | None = None, *, cost: int = 1) -> None:
        """Count one try, or `cost` of them, against all of the flow's policies; `<flow>:<by>` counts against that one.

        subject: whose account it is, or the address or code that was typed; without one the account's policy is left to whoever
        knows it, and what was counted then is not counted again. Raises RateLimited or LimitsUnavailable.
        """
        if self._is_unlimited:
            return
        policies_by = {policy.by: policy for policy in self._limiter.policies(flow)}
        typed = None if subject is None else subject.strip().casefold()
        is_known = "device" in policies_by and self._is_known(typed)
        for group in _ORDER:
            wanted = [
                (of, policies_by[by])
                for by in group
                if by in policies_by and (of := self._counted_as(by, typed, is_known=is_known)) is not None
            ]
            wanted = [(of, policy) for of, policy in wanted if (of, policy.name) not in self._counted]
            if wanted:
                await self._take(self._blocks.network if "network" in group else wanted[0][0], wanted, cost)

    def remember(self, subject: str) -> tuple[str, str]:
        """Return the header by which this device is known again as one that logged in to the account of this address."""
        return "Set-Cookie", self._limiter.cookie(subject.strip().casefold(), https=self._https)

    def headers(self) -> dict[str, str]:
        return policies.headers(self.outcomes)

    def _is_known(self, typed: str | None) -> bool:
        """Before the account is known, any device that logged in to one counts by itself; then only the account's own."""
        if self._device is None:
            return False
        return typed is None or hmac.compare_digest(
            self._device.subject_digest, self._limiter.subject_digest(typed)
        )

    def _counted_as(self, by: str, typed: str | None, *, is_known: bool) -> str | None:
        """Return the name of the bucket's owner; None: this policy does not count this request."""
        match by:
            case "client":
                return None if is_known else self._blocks.client
            case "network":
                return self._blocks.network
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
