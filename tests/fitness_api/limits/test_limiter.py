import asyncio
from collections.abc import Sequence
from contextlib import suppress
from secrets import token_bytes

import pytest

from fitness_api.limits.addresses import networks
from fitness_api.limits.buckets import Buckets, BucketsUnavailable, Charge
from fitness_api.limits.buckets_local import LocalBuckets
from fitness_api.limits.errors import LimitsUnavailable, RateLimited
from fitness_api.limits.gcra import Taken
from fitness_api.limits.limiter import LEASE_WITHIN_S, Limiter, Limits
from fitness_api.limits.policies import Policy

HOME, ELSEWHERE = "203.0.113.9", "198.51.100.7"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s

    def us(self) -> int:
        return int(self.now_s * 1_000_000)


class Shared:
    """What Redis is to several processes, and may be away."""

    def __init__(self, clock: Clock) -> None:
        self.is_away = False
        self.calls: list[Sequence[Charge]] = []
        self._buckets = LocalBuckets(now_us=clock.us)

    async def take(self, charges: Sequence[Charge]) -> list[Taken]:
        self.calls.append(charges)
        if self.is_away:
            raise BucketsUnavailable
        return await self._buckets.take(charges)


TABLE: dict[str, Sequence[Policy]] = {
    "login": (
        Policy("login", "account", 4, 60, "count_here_tighter"),
        Policy("login", "device", 3, 60, "count_here_tighter"),
        Policy("login", "client", 10, 60, "count_here_tighter"),
        Policy("login", "network", 20, 60),
        Policy("login", "everyone", 30, 60),
    ),
    "mfa": (Policy("mfa", "account", 4, 60, "refuse"),),
    "sync": (Policy("sync", "account", 20, 20, lease=5),),
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shared(clock: Clock) -> Shared:
    return Shared(clock)


@pytest.fixture
def limiter(shared: Shared, clock: Clock) -> Limiter:
    return process(shared, clock)


def process(shared: Buckets, clock: Clock, unlimited: str = "", shared_by_many: str = "") -> Limiter:
    return Limiter(
        shared,
        LocalBuckets(now_us=clock.us),
        master_key=b"m" * 32,
        shared_by_many=networks(shared_by_many),
        unlimited=networks(unlimited),
        table=TABLE,
        now_s=clock,
        wall_clock_s=clock,
    )


async def granted(limits: Sequence[Limits], flow: str, subject: str | None = None, *, cost: int = 1) -> int:
    """Return how many of these requests were let through."""
    count = 0
    for one in limits:
        try:
            await one.require(flow, subject, cost=cost)
        except RateLimited:
            continue
        count += 1
    return count


def requests(limiter: Limiter, count: int, address: str = HOME, cookie: str = "") -> list[Limits]:
    return [limiter.of(address, device_cookie=cookie) for _ in range(count)]


def cookie_of(limits: Limits, subject: str) -> str:
    return limits.remember(subject)["Set-Cookie"].partition("=")[2].partition(";")[0]


async def test_an_account_is_tried_only_so_often_from_wherever(limiter: Limiter) -> None:
    crowd = [limiter.of(f"198.51.{number}.7") for number in range(20)]
    assert await granted(crowd, "login", "ada@example.org") == 4
    assert await granted([limiter.of("192.0.2.1")], "login", " ADA@example.org ") == 0
    assert await granted([limiter.of("192.0.2.1")], "login", "bob@example.org") == 1


async def test_an_address_block_tries_only_so_often_whomever(limiter: Limiter) -> None:
    tries = [await granted(requests(limiter, 1), "login", f"{number}@example.org") for number in range(20)]
    assert tries == [1] * 10 + [0] * 10
    assert await granted(requests(limiter, 1, ELSEWHERE), "login", "x@example.org") == 1


async def test_with_a_64_one_has_one_quota_and_with_a_48_not_65536(limiter: Limiter) -> None:
    one = [limiter.of(f"2001:db8:0:1::{number:x}") for number in range(1, 30)]
    assert await granted(one, "login") == 10
    many = [limiter.of(f"2001:db8:0:{number:x}::1") for number in range(2, 60)]
    assert await granted(many, "login") == 10  # what the /48 had left


async def test_whoever_is_refused_by_his_own_quota_takes_nothing_of_everybody_s(limiter: Limiter) -> None:
    assert await granted(requests(limiter, 500), "login") == 10
    others = [limiter.of(f"192.0.{number}.1") for number in range(40)]
    assert await granted(others, "login") == 20


async def test_what_the_edge_counted_is_not_counted_again_when_the_account_is_known(limiter: Limiter) -> None:
    for number in range(10):
        limits = limiter.of(HOME)
        await limits.require("login")
        await limits.require("login", f"{number}@example.org")
    assert await granted(requests(limiter, 1), "login") == 0


async def test_the_owner_s_device_is_not_kept_out_by_those_who_try_his_account(limiter: Limiter) -> None:
    cookie = cookie_of(limiter.of(HOME), "Ada@example.org")
    assert await granted(requests(limiter, 50), "login", "ada@example.org") == 4
    assert await granted(requests(limiter, 50), "login") == 0
    assert await granted([limiter.of(f"198.51.{number}.7") for number in range(50)], "login") == 26
    own = requests(limiter, 5, HOME, cookie)
    for limits in own[:3]:
        await limits.require("login")
        await limits.require("login", "ada@example.org")
    assert await granted(own[3:], "login", "ada@example.org") == 0  # its own quota


async def test_a_device_of_another_account_is_a_stranger(limiter: Limiter) -> None:
    cookie = cookie_of(limiter.of(HOME), "eve@example.org")
    assert await granted(requests(limiter, 50), "login", "ada@example.org") == 4
    eve = limiter.of(ELSEWHERE, device_cookie=cookie)
    await eve.require("login")
    assert not eve.knows("ada@example.org")
    assert await granted([eve], "login", "ada@example.org") == 0


async def test_a_device_that_is_known_keeps_its_cookie(limiter: Limiter) -> None:
    cookie = cookie_of(limiter.of(HOME), "ada@example.org")
    known = limiter.of(HOME, device_cookie=cookie)
    assert known.remember("ada@example.org") == {}
    assert known.remember("bob@example.org")


async def test_a_made_up_cookie_is_none(limiter: Limiter) -> None:
    assert await granted(requests(limiter, 50, HOME, "x" * 100), "login") == 10


async def test_one_policy_can_be_asked_alone(limiter: Limiter, shared: Shared) -> None:
    assert await granted(requests(limiter, 6), "login:account", "ada@example.org") == 4
    assert {charge.name for call in shared.calls for charge in call} == {"login:account"}
    with pytest.raises(KeyError):
        await limiter.of(HOME).require("no_such_flow")


async def test_no_address_and_no_account_leaves_the_process(limiter: Limiter, shared: Shared) -> None:
    await limiter.of(HOME).require("login", "ada@example.org")
    sent = repr(shared.calls)
    assert "ada" not in sent
    assert "203" not in sent
    assert len(shared.calls) == 3


async def test_from_networks_that_are_not_limited_nothing_is_counted(shared: Shared, clock: Clock) -> None:
    limiter = process(shared, clock, "203.0.113.0/24")
    assert await granted(requests(limiter, 500), "login", "ada@example.org") == 500
    assert shared.calls == []
    assert await granted(requests(limiter, 500, ELSEWHERE), "login", "ada@example.org") == 4


async def test_without_redis_each_process_counts_fewer(limiter: Limiter, shared: Shared) -> None:
    shared.is_away = True
    assert await granted(requests(limiter, 50), "login", "ada@example.org") == 1
    assert await granted(requests(limiter, 50, ELSEWHERE), "sync", "ada", cost=1) == 20


async def test_without_redis_guesses_that_must_be_counted_are_refused(limiter: Limiter, shared: Shared) -> None:
    shared.is_away = True
    with pytest.raises(LimitsUnavailable):
        await limiter.of(HOME).require("mfa", "ada")
    shared.is_away = False
    assert await granted(requests(limiter, 10), "mfa", "ada") == 4


async def test_what_is_leased_is_counted_a_few_at_a_time(limiter: Limiter, shared: Shared) -> None:
    limits = limiter.of(HOME)
    for _ in range(10):
        await limits.require("sync:account", "ada", cost=1)
        limits = limiter.of(HOME)
    assert len(shared.calls) == 2
    await limits.require("sync", "ada", cost=7)
    assert len(shared.calls) == 3
    assert limits.headers()["RateLimit"].startswith('"sync-account";r=3;')


async def test_leases_of_several_processes_never_give_more_together(shared: Shared, clock: Clock) -> None:
    processes = [process(shared, clock) for _ in range(3)]
    total = sum([await granted(requests(one, 50), "sync", "ada") for one in processes])
    assert total == 20
    clock.now_s += 20
    # A lease that was kept for long is no longer good.
    [await granted(requests(one, 1), "sync", "ada") for one in processes]
    clock.now_s += LEASE_WITHIN_S + 20
    assert sum([await granted(requests(one, 50), "sync", "ada") for one in processes]) == 20


async def test_a_lease_is_taken_once_however_many_wait_for_it(limiter: Limiter, shared: Shared) -> None:
    answers = await asyncio.gather(
        *(limiter.of(HOME).require("sync", "ada") for _ in range(100)), return_exceptions=True
    )
    assert sum(answer is None for answer in answers) == 20
    assert len(shared.calls) == 5


async def test_a_client_that_floods_is_refused_without_asking_anybody(
    limiter: Limiter, shared: Shared, clock: Clock
) -> None:
    assert await granted(requests(limiter, 11), "login:client") == 10
    before = len(shared.calls)
    assert await granted(requests(limiter, 10_000), "login:client") == 0
    assert len(shared.calls) == before
    clock.now_s += 6
    assert await granted(requests(limiter, 10), "login:client") == 1


async def test_a_cost_beyond_the_quota_is_never_granted(limiter: Limiter) -> None:
    assert await granted([limiter.of(HOME)], "sync", "ada", cost=21) == 0


async def test_cookies_do_not_tell_whose_they_are_and_differ(limiter: Limiter) -> None:
    cookies = {cookie_of(limiter.of(HOME), "ada@example.org") for _ in range(10)}
    assert len(cookies) == 10
    other = Limiter(LocalBuckets(), LocalBuckets(), master_key=token_bytes(32))
    assert not other.of(HOME, device_cookie=cookies.pop()).knows("ada@example.org")


async def test_where_many_come_from_one_address_accounts_and_everybody_are_counted(
    shared: Buckets, clock: Clock
) -> None:
    limiter = process(shared, clock, shared_by_many="192.0.2.0/24")
    assert await granted(requests(limiter, 20, "192.0.2.1"), "login", "ada@example.org") == 4
    people = [f"{number}@example.org" for number in range(40)]
    let_in = [await granted([limiter.of("192.0.2.1")], "login", person) for person in people]
    assert 0 < sum(let_in) < len(people)  # until all together are too many
    asked = limiter.of("192.0.2.1")
    with suppress(RateLimited):
        await asked.require("login", "eve@example.org")
    assert not any(name in header for header in asked.headers().values() for name in ("client", "network"))
