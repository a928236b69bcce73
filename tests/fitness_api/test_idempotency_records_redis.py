import asyncio
from collections.abc import AsyncIterator
from secrets import token_bytes, token_hex

import pytest
from redis.asyncio import Redis

from fitness_api.embedded.data_directory import free_port
from fitness_api.idempotency_records import Record, RecordsUnavailable
from fitness_api.idempotency_records_redis import RedisRecords
from fitness_api.redis_guarded import GuardedRedis

ONE, OTHER = b"1" * 32, b"2" * 32


@pytest.fixture
async def records(redis_url: str) -> AsyncIterator[RedisRecords]:
    guarded = GuardedRedis(redis_url, within_s=20)
    yield RedisRecords(guarded, running_ms=60_000, kept_ms=3_600_000)
    await guarded.aclose()


@pytest.fixture
def slot() -> str:
    return token_hex(32)


async def test_of_those_that_begin_at_once_one_does(records: RedisRecords, slot: str) -> None:
    owners = [token_bytes(16) for _ in range(50)]
    begun = await asyncio.gather(*(records.begin(slot, ONE, owner) for owner in owners))
    [first] = [owner for owner, found in zip(owners, begun, strict=True) if found is None]
    assert all(found is None or found == Record("running", ONE, first) for found in begun)
    assert await records.begin(slot, OTHER, owners[0]) == Record("running", ONE, first)


async def test_what_became_of_it_is_found_and_not_begun_again(records: RedisRecords, slot: str) -> None:
    owner, content = token_bytes(16), bytes(range(256))
    assert await records.begin(slot, ONE, owner) is None
    await records.end(slot, ONE, owner, Record("answered", ONE, content))
    assert await records.begin(slot, ONE, token_bytes(16)) == Record("answered", ONE, content)
    assert await records.begin(slot, OTHER, token_bytes(16)) == Record("answered", ONE, content)
    assert await records.note(slot, ONE) == Record("answered", ONE, content)


async def test_what_may_run_again_does_with_the_same_body_only(records: RedisRecords, slot: str) -> None:
    owner = token_bytes(16)
    assert await records.begin(slot, ONE, owner) is None
    await records.end(slot, ONE, owner, Record("seen", ONE))
    assert await records.begin(slot, OTHER, owner) == Record("seen", ONE)
    assert await records.begin(slot, ONE, owner) is None
    assert await records.begin(slot, ONE, token_bytes(16)) == Record("running", ONE, owner)


async def test_what_was_begun_may_be_undone(records: RedisRecords, slot: str) -> None:
    owner = token_bytes(16)
    assert await records.begin(slot, ONE, owner) is None
    await records.end(slot, ONE, owner, None)
    assert await records.begin(slot, OTHER, owner) is None


async def test_only_its_owner_ends_it(records: RedisRecords, slot: str) -> None:
    owner = token_bytes(16)
    assert await records.begin(slot, ONE, owner) is None
    for record in (None, Record("answered", ONE, b"another's")):
        await records.end(slot, ONE, token_bytes(16), record)
        assert await records.begin(slot, ONE, token_bytes(16)) == Record("running", ONE, owner)


async def test_a_note_is_taken_once(records: RedisRecords, slot: str) -> None:
    assert await records.note(slot, ONE) is None
    assert await records.note(slot, OTHER) == Record("seen", ONE)
    assert await records.note(slot, ONE) == Record("seen", ONE)


async def test_nothing_lasts_for_ever(records: RedisRecords, slot: str, redis: Redis) -> None:
    owner = token_bytes(16)
    await records.begin(slot, ONE, owner)
    assert 50_000 < await redis.pttl(f"idempotency:{slot}") <= 60_000
    await records.end(slot, ONE, owner, Record("unanswered", ONE))
    assert 3_500_000 < await redis.pttl(f"idempotency:{slot}") <= 3_600_000
    other = token_hex(32)
    await records.note(other, ONE)
    assert 3_500_000 < await redis.pttl(f"idempotency:{other}") <= 3_600_000


async def test_without_redis_they_say_so(slot: str) -> None:
    records = RedisRecords(GuardedRedis(f"redis://127.0.0.1:{free_port()}/0"), running_ms=1, kept_ms=1)
    for call in (records.begin(slot, ONE, b"o"), records.note(slot, ONE), records.end(slot, ONE, b"o", None)):
        with pytest.raises(RecordsUnavailable):
            await call
