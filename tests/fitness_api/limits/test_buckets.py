"""The port's contract on both adapters; and on Redis what several processes share, and a Cluster."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from fitness_api.embedded.data_directory import free_port
from fitness_api.limits.buckets import Buckets, BucketsUnavailable, Charge
from fitness_api.limits.buckets_local import LocalBuckets
from fitness_api.limits.buckets_redis import RedisBuckets
from fitness_api.limits.gcra import Rate, take
from fitness_api.redis_guarded import GuardedRedis
from tests.sync.test_hints_redis import Server, cluster  # noqa: F401  a fixture


class Clock:
    def __init__(self) -> None:
        self.now_us = 10**15

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def guarded(redis_url: str) -> AsyncIterator[GuardedRedis]:
    redis = GuardedRedis(redis_url, within_s=20)
    yield redis
    await redis.aclose()


@pytest.fixture(params=["local", "redis"])
def buckets(request: pytest.FixtureRequest, clock: Clock, guarded: GuardedRedis) -> Buckets:
    return LocalBuckets(now_us=clock) if request.param == "local" else RedisBuckets(guarded, now_us=clock)


def charge(
    name: str, quota: int = 5, *, subject: str | None = None, least: int = 1, wanted: int | None = None
) -> Charge:
    subject = subject or uuid4().hex
    return Charge(subject, subject, name, Rate(quota, quota * 1_000_000), least, wanted or least)


async def test_a_bucket_gives_its_quota_then_one_token_an_interval(buckets: Buckets, clock: Clock) -> None:
    one = charge("login:client")
    assert [(await buckets.take([one]))[0].remaining for _ in range(5)] == [4, 3, 2, 1, 0]
    [refused] = await buckets.take([one])
    assert (refused.granted, refused.retry_after_us, refused.full_after_us) == (0, 1_000_000, 5_000_000)
    clock.now_us += 999_999
    assert (await buckets.take([one]))[0].granted == 0
    clock.now_us += 1
    assert (await buckets.take([one]))[0].granted == 1
    clock.now_us += 10**9
    assert (await buckets.take([one._replace(least=6, wanted=6)]))[0].granted == 0
    assert (await buckets.take([one._replace(least=5, wanted=5)]))[0].granted == 5


async def test_as_many_are_given_as_are_there_and_wanted(buckets: Buckets) -> None:
    one = charge("sync:account", least=2, wanted=4)
    assert (await buckets.take([one]))[0].granted == 4
    [refused] = await buckets.take([one])
    assert (refused.granted, refused.remaining, refused.retry_after_us) == (0, 1, 1_000_000)
    assert (await buckets.take([one._replace(least=1)]))[0].granted == 1


async def test_all_are_charged_or_none(buckets: Buckets) -> None:
    wide, narrow = charge("login:network"), charge("login:client", 1)
    narrow = narrow._replace(home=wide.home)
    assert [taken.granted for taken in await buckets.take([wide, narrow])] == [1, 1]
    first, second = await buckets.take([wide, narrow])
    assert (first.granted, first.remaining, first.retry_after_us, first.full_after_us) == (0, 4, 0, 1_000_000)
    assert (second.granted, second.remaining, second.retry_after_us) == (0, 0, 1_000_000)
    assert (await buckets.take([wide]))[0].remaining == 3


async def test_buckets_are_told_apart_by_whose_they_are_and_by_name(buckets: Buckets) -> None:
    one = charge("login:client", 1)
    for other in (one, one._replace(name="reset:client"), charge("login:client", 1)):
        assert (await buckets.take([other]))[0].granted == 1
        assert (await buckets.take([other]))[0].granted == 0


async def test_at_once_they_grant_no_more(buckets: Buckets) -> None:
    one = charge("login:client", 7)
    answers = await asyncio.gather(*(buckets.take([one]) for _ in range(50)))
    assert sum(taken.granted for [taken] in answers) == 7


STEPS = st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(1, 4), st.integers(0, 4)), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 10**6), st.integers(1, 10**12), STEPS)
async def test_the_script_decides_as_the_law_does(
    redis_url: str, quota: int, window_us: int, steps: list[tuple[int, int, int]]
) -> None:
    clock = Clock()
    redis = GuardedRedis(redis_url, within_s=20)
    try:
        buckets, rate, full_at_us = RedisBuckets(redis, now_us=clock), Rate(quota, window_us), 0
        subject = uuid4().hex
        for pause_us, least, more in steps:
            clock.now_us += pause_us
            full_at_us, expected = take(full_at_us, clock.now_us, rate, least=least, wanted=least + more)
            [taken] = await buckets.take([Charge(subject, subject, "x:client", rate, least, least + more)])
            assert taken == expected
    finally:
        await redis.aclose()


async def test_processes_share_one_clock_and_one_count(redis_url: str) -> None:
    processes = [GuardedRedis(redis_url, within_s=20) for _ in range(3)]
    try:
        one = charge("login:client", 20)
        calls = [RedisBuckets(process).take([one]) for process in processes for _ in range(20)]
        assert sum(taken.granted for [taken] in await asyncio.gather(*calls)) in {20, 21}  # a second may have passed
    finally:
        for process in processes:
            await process.aclose()


async def test_a_bucket_goes_once_it_is_full(guarded: GuardedRedis, redis: Redis) -> None:
    one = charge("login:client", 5)
    await RedisBuckets(guarded).take([one])
    [key] = [key async for key in redis.scan_iter(match=f"limits:*:{one.subject}", count=1000)]
    assert 0 < await redis.pttl(key) <= 11_000


async def test_on_a_cluster_each_call_goes_to_one_node(cluster: tuple[Server, Server]) -> None:  # noqa: F811
    redis = GuardedRedis(cluster[0].url, within_s=20)
    try:
        buckets = RedisBuckets(redis)
        for _ in range(20):
            wide, narrow = charge("login:network"), charge("login:client", 1)
            narrow = narrow._replace(home=wide.home)
            assert [taken.granted for taken in await buckets.take([wide, narrow])] == [1, 1]
            assert [taken.granted for taken in await buckets.take([wide, narrow])] == [0, 0]
    finally:
        await redis.aclose()


async def test_without_redis_they_say_so() -> None:
    redis = GuardedRedis(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(BucketsUnavailable):
        await RedisBuckets(redis).take([charge("login:client")])


async def test_here_what_is_kept_is_bounded_and_nobody_is_refilled_by_a_crowd(clock: Clock) -> None:
    buckets = LocalBuckets(now_us=clock, max_buckets=10)
    mine = charge("login:client", 1)
    assert (await buckets.take([mine]))[0].granted == 1
    crowd = [charge("login:client", 3) for _ in range(100)]
    granted = sum([(await buckets.take([one]))[0].granted for one in crowd])
    assert granted == 9 + 3  # those who had a bucket of their own, and those who shared one
    assert len(buckets._full_at_us) == 11
    assert (await buckets.take([mine]))[0].granted == 0
    for one in crowd:
        clock.now_us += 10**7
        assert (await buckets.take([one]))[0].remaining == 2
    assert len(buckets._full_at_us) <= 11
