"""The port's contract, bullet by bullet."""

import asyncio
from typing import Any

import pymongo
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.mail.errors import OutboxUnavailable
from fitness_api.mail.outbox import Outgoing
from fitness_api.mail.outbox_mongo import COLLECTIONS, MongoOutbox

NOW_MS = 4_000_000_000_000


@pytest.fixture
def outbox(database: AsyncDatabase[dict[str, Any]]) -> MongoOutbox:
    return MongoOutbox(database)


def mail(mail_id: str, *, at_ms: int = NOW_MS, **more: Any) -> Outgoing:
    return Outgoing(**{"mail_id": mail_id, "kind": "new_login", "user_id": "u1", "created_at_ms": at_ms, **more})


async def take(outbox: MongoOutbox, *, limit: int = 10, now_ms: int = NOW_MS, lease_ms: int = 60_000) -> list[Outgoing]:
    return await outbox.take(limit=limit, now_ms=now_ms, until_ms=now_ms + lease_ms)


async def test_what_was_put_is_taken_until_it_is_done(outbox: MongoOutbox) -> None:
    put = mail("m1", address="a@example.org", details={"new_address": "b.c@example.org"})
    await outbox.put(put)
    for tries in (1, 2):
        now_ms = NOW_MS + tries * 60_000
        (taken,) = await take(outbox, now_ms=now_ms)
        assert (taken.tries, taken.details, taken.address, taken.user_id) == (tries, put.details, put.address, "u1")
        assert await take(outbox, now_ms=now_ms + 59_999) == []
    await outbox.done(taken)
    assert await take(outbox, now_ms=NOW_MS + 10**9) == []


async def test_of_two_with_one_id_the_second_is_not_kept_while_the_first_waits(outbox: MongoOutbox) -> None:
    await outbox.put(mail("m1", details={"n": "1"}))
    await outbox.put(mail("m1", at_ms=NOW_MS + 1, details={"n": "2"}))
    (taken,) = await take(outbox, now_ms=NOW_MS + 1)
    assert taken.details == {"n": "1"}
    await outbox.done(taken)
    await outbox.put(mail("m1", at_ms=NOW_MS + 2, details={"n": "3"}))
    assert [m.details for m in await take(outbox, now_ms=NOW_MS + 2)] == [{"n": "3"}]


async def test_whoever_takes_at_the_same_time_gets_others(
    outbox: MongoOutbox, database: AsyncDatabase[dict[str, Any]]
) -> None:
    for number in range(20):
        await outbox.put(mail(f"m{number}"))
    taken = await asyncio.gather(*(take(MongoOutbox(database), limit=7) for _ in range(8)))
    ids = [one.mail_id for some in taken for one in some]
    assert len(ids) == len(set(ids))
    rest = await take(outbox, limit=20)
    assert len(ids) + len(rest) == 20


async def test_the_longest_due_come_first_and_no_more_than_asked_for(outbox: MongoOutbox) -> None:
    for number in (3, 1, 2):
        await outbox.put(mail(f"m{number}", at_ms=NOW_MS + number))
    assert [m.mail_id for m in await take(outbox, limit=2, now_ms=NOW_MS + 2)] == ["m1", "m2"]


async def test_what_is_deferred_is_due_then(outbox: MongoOutbox) -> None:
    await outbox.put(mail("m1"))
    (taken,) = await take(outbox)
    await outbox.defer(taken, due_at_ms=NOW_MS + 100_000)
    assert await take(outbox, now_ms=NOW_MS + 99_999) == []
    assert [m.tries for m in await take(outbox, now_ms=NOW_MS + 100_000)] == [2]


async def test_who_lost_the_lease_neither_removes_nor_defers(outbox: MongoOutbox) -> None:
    await outbox.put(mail("m1"))
    (late,) = await take(outbox)
    (taken,) = await take(outbox, now_ms=NOW_MS + 60_000)
    await outbox.done(late)
    await outbox.defer(late, due_at_ms=NOW_MS)
    assert await take(outbox, now_ms=NOW_MS + 60_000) == []
    await outbox.defer(taken, due_at_ms=NOW_MS)
    assert len(await take(outbox)) == 1


async def test_what_is_an_accounts_is_listed_and_removed(outbox: MongoOutbox) -> None:
    for mail_id, user_id in (("m1", "u1"), ("m2", "u1"), ("m3", "u2"), ("m4", None)):
        await outbox.put(mail(mail_id, user_id=user_id))
    assert {m.mail_id for m in await outbox.of("u1")} == {"m1", "m2"}
    await outbox.remove("u1")
    assert await outbox.of("u1") == []
    assert {m.mail_id for m in await take(outbox)} == {"m3", "m4"}


async def test_what_nobody_sends_goes_by_itself(outbox: MongoOutbox, database: AsyncDatabase[dict[str, Any]]) -> None:
    await outbox.put(mail("m1"))
    stored = await database["mail_outbox"].find_one({})
    assert stored is not None
    assert (stored["expires_at"] - stored["created_at"]).days == 3
    assert ([("expires_at", 1)], {"expireAfterSeconds": 0}) in COLLECTIONS["mail_outbox"]["indexes"]


async def test_a_database_that_does_not_answer_in_time_is_unavailable(outbox: MongoOutbox) -> None:
    asked = (
        lambda: outbox.put(mail("m1")),
        lambda: take(outbox),
        lambda: outbox.defer(mail("m1"), due_at_ms=0),
        lambda: outbox.done(mail("m1")),
        lambda: outbox.of("u1"),
        lambda: outbox.remove("u1"),
    )
    for ask in asked:
        with pymongo.timeout(1e-6), pytest.raises(OutboxUnavailable):
            await ask()
