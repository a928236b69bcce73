import asyncio
from typing import Any

import pymongo
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity import single_use
from fitness_api.identity.errors import StoreUnavailable
from fitness_api.identity.single_use import Artefact, Used
from fitness_api.identity.single_use_mongo import MongoSingleUse
from tests.sync.model import new_id

# Ahead of the wall clock, so that the database's own sweep finds nothing that has expired.
NOW_MS = 4_000_000_000_000


@pytest.fixture
def artefacts(database: AsyncDatabase[dict[str, Any]]) -> MongoSingleUse:
    return MongoSingleUse(database)


def artefact(secret: str, *, kind: str = "reset", user_id: str | None = None) -> Artefact:
    return Artefact(
        kind=kind,
        digest=single_use.digest_of(secret),
        user_id=user_id,
        content=b'{"for":"x"}',
        expires_at_ms=NOW_MS + 60_000,
    )


async def test_of_many_redeemers_one_gets_it(database: AsyncDatabase[dict[str, Any]]) -> None:
    secret = single_use.secret()
    one, other = MongoSingleUse(database), MongoSingleUse(database)
    given = artefact(secret, user_id=new_id())
    await one.add(given)
    digest = single_use.digest_of(secret)
    got = await asyncio.gather(*((one, other)[n % 2].use("reset", digest, now_ms=NOW_MS) for n in range(50)))
    assert [each for each in got if isinstance(each, Artefact)] == [given]
    assert [each for each in got if each == Used(given, b"")] == [Used(given, b"")] * 49
    await one.annotate("reset", digest, b"its session")
    assert await other.use("reset", digest, now_ms=NOW_MS) == Used(given, b"its session")


async def test_it_can_be_read_until_it_is_redeemed(artefacts: MongoSingleUse) -> None:
    secret = single_use.secret()
    digest = single_use.digest_of(secret)
    given = artefact(secret)
    await artefacts.add(given)
    assert await artefacts.read("reset", digest, now_ms=NOW_MS) == given
    await artefacts.use("reset", digest, now_ms=NOW_MS)
    assert await artefacts.read("reset", digest, now_ms=NOW_MS) is None


async def test_misses_are_counted_whoever_counts_at_the_same_time(artefacts: MongoSingleUse) -> None:
    digest = single_use.digest_of("a")
    await artefacts.add(artefact("a"))
    counts = await asyncio.gather(*(artefacts.miss("reset", digest) for _ in range(20)))
    assert sorted(counts) == list(range(1, 21))
    assert await artefacts.miss("reset", single_use.digest_of("b")) == 0
    assert isinstance(await artefacts.use("reset", digest, now_ms=NOW_MS), Artefact)


async def test_another_kind_another_secret_and_an_expired_one_are_none(artefacts: MongoSingleUse) -> None:
    secret = single_use.secret()
    digest = single_use.digest_of(secret)
    await artefacts.add(artefact(secret))
    for kind, named, now_ms in (
        ("verify", digest, NOW_MS),
        ("reset", single_use.digest_of("other"), NOW_MS),
        ("reset", digest, NOW_MS + 60_000),
    ):
        assert await artefacts.read(kind, named, now_ms=now_ms) is None
        assert await artefacts.use(kind, named, now_ms=now_ms) is None
    assert isinstance(await artefacts.use("reset", digest, now_ms=NOW_MS + 59_999), Artefact)


async def test_an_accounts_pending_ones_are_cancelled_by_kind(artefacts: MongoSingleUse) -> None:
    ada, bob = new_id(), new_id()
    for name, kind, user_id in (("a", "reset", ada), ("b", "verify", ada), ("c", "reset", bob), ("d", "mfa", ada)):
        await artefacts.add(artefact(name, kind=kind, user_id=user_id))
    await artefacts.cancel(ada, {"reset", "mfa"})
    left = [
        name
        for name, kind in (("a", "reset"), ("b", "verify"), ("c", "reset"), ("d", "mfa"))
        if await artefacts.read(kind, single_use.digest_of(name), now_ms=NOW_MS)
    ]
    assert left == ["b", "c"]


async def test_no_secret_is_stored(artefacts: MongoSingleUse, database: AsyncDatabase[dict[str, Any]]) -> None:
    secret = single_use.secret()
    await artefacts.add(artefact(secret))
    assert secret not in str([found async for found in database["single_use"].find({})])


async def test_a_database_that_does_not_answer_in_time_is_unavailable(artefacts: MongoSingleUse) -> None:
    digest = single_use.digest_of("x")
    with pymongo.timeout(1e-6):
        with pytest.raises(StoreUnavailable):
            await artefacts.add(artefact("x"))
        with pytest.raises(StoreUnavailable):
            await artefacts.read("reset", digest, now_ms=NOW_MS)
        with pytest.raises(StoreUnavailable):
            await artefacts.use("reset", digest, now_ms=NOW_MS)
        with pytest.raises(StoreUnavailable):
            await artefacts.annotate("reset", digest, b"")
        with pytest.raises(StoreUnavailable):
            await artefacts.cancel(new_id(), {"reset"})
