"""Delivery over a real outbox and a real SMTP server."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.mail.deliver import (
    FIRST_PAUSE_MS,
    LEASE_MS,
    LONGEST_PAUSE_MS,
    MAX_TRIES,
    Delivery,
    message_id,
    pause_ms,
)
from fitness_api.mail.errors import MailDeferred
from fitness_api.mail.letter import Letter
from fitness_api.mail.outbox import Outgoing
from fitness_api.mail.outbox_mongo import KEPT_MS, MongoOutbox
from fitness_api.mail.sender_smtp import SEND_WITHIN_S, SmtpSender
from tests.fitness_api.smtp import Inbox, inbox

FROM = "no-reply@example.net"


class Clock:
    now_ms = 4_000_000_000_000

    def __call__(self) -> int:
        return self.now_ms


async def compose(outgoing: Outgoing) -> Letter | None:
    if outgoing.kind == "nothing":
        return None
    if outgoing.kind == "later":
        raise MailDeferred("not now")
    if outgoing.kind == "broken":
        raise KeyError(outgoing.kind)
    return Letter(to=f"{outgoing.mail_id}@example.org", language="en", subject="s", text="t\n", html="h\n")


@pytest.fixture
def outbox(database: AsyncDatabase[dict[str, Any]]) -> MongoOutbox:
    return MongoOutbox(database)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def delivery(outbox: MongoOutbox, clock: Clock) -> Callable[[Inbox], Delivery]:
    def made(kept: Inbox) -> Delivery:
        return Delivery(outbox, SmtpSender(kept.url, sender=FROM), compose, now_ms=clock, dice=lambda: 0.5)

    return made


def mail(mail_id: str, *, kind: str = "new_login", at_ms: int = Clock.now_ms) -> Outgoing:
    return Outgoing(mail_id=mail_id, kind=kind, user_id="u1", created_at_ms=at_ms)


async def test_what_waits_is_sent_once(outbox: MongoOutbox, delivery: Callable[[Inbox], Delivery]) -> None:
    for number in range(10):
        await outbox.put(mail(f"m{number}"))
    async with inbox() as kept:
        gateways = [delivery(kept) for _ in range(3)]
        while sum(await asyncio.gather(*(gateway.deliver_due() for gateway in gateways))):
            pass
    assert sorted(to for (to,) in kept.recipients) == [f"m{number}@example.org" for number in range(10)]
    assert await outbox.of("u1") == []


async def test_what_there_is_nothing_to_say_of_is_done(
    outbox: MongoOutbox, delivery: Callable[[Inbox], Delivery]
) -> None:
    await outbox.put(mail("m1", kind="nothing"))
    async with inbox() as kept:
        assert await delivery(kept).deliver_due() == 1
    assert (kept.mails, await outbox.of("u1")) == ([], [])


@pytest.mark.parametrize("kind", ["later", "broken"])
async def test_what_cannot_be_written_now_holds_up_no_other_and_comes_again(
    kind: str, outbox: MongoOutbox, delivery: Callable[[Inbox], Delivery], clock: Clock
) -> None:
    await outbox.put(mail("m1", kind=kind))
    await outbox.put(mail("m2"))
    async with inbox() as kept:
        await delivery(kept).deliver_due()
        assert kept.recipients == [["m2@example.org"]]
        assert await delivery(kept).deliver_due() == 0
        clock.now_ms += FIRST_PAUSE_MS
        assert await delivery(kept).deliver_due() == 1


async def test_a_server_that_is_back_gets_what_it_missed(
    outbox: MongoOutbox, delivery: Callable[[Inbox], Delivery], clock: Clock
) -> None:
    await outbox.put(mail("m1"))
    async with inbox() as kept:
        kept.refusal = "451 later"
        await delivery(kept).deliver_due()
        kept.refusal = None
        assert await delivery(kept).deliver_due() == 0
        clock.now_ms += FIRST_PAUSE_MS
        await delivery(kept).deliver_due()
    assert kept.recipients == [["m1@example.org"]]


async def test_a_mailbox_that_is_none_is_not_asked_again(
    outbox: MongoOutbox, delivery: Callable[[Inbox], Delivery], caplog: pytest.LogCaptureFixture
) -> None:
    await outbox.put(mail("m1"))
    async with inbox() as kept:
        kept.refusal = "550 m1@example.org is nobody"
        await delivery(kept).deliver_due()
    assert await outbox.of("u1") == []
    assert [record.levelno for record in caplog.records if record.name == "fitness_api.mail"] == [logging.WARNING]
    assert "m1@" not in caplog.text


async def test_mail_is_given_up_after_so_many_tries_and_logged(
    outbox: MongoOutbox, delivery: Callable[[Inbox], Delivery], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    await outbox.put(mail("m1", kind="later"))
    async with inbox() as kept:
        tries = 0
        while tries < MAX_TRIES:
            tries += await delivery(kept).deliver_due()
            clock.now_ms += LONGEST_PAUSE_MS
    assert await outbox.of("u1") == []
    assert [record.levelno for record in caplog.records if "given up" in record.message] == [logging.ERROR]


async def test_what_a_dead_gateway_had_taken_is_sent_by_another(
    outbox: MongoOutbox, delivery: Callable[[Inbox], Delivery], clock: Clock
) -> None:
    await outbox.put(mail("m1"))
    async with inbox() as kept:
        kept.hangs = True
        dying = asyncio.create_task(delivery(kept).deliver_due())
        while not await outbox.of("u1") or (await outbox.of("u1"))[0].tries == 0:
            await asyncio.sleep(0.01)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        kept.hangs = False
        assert await delivery(kept).deliver_due() == 0
        clock.now_ms += LEASE_MS
        assert await delivery(kept).deliver_due() == 1
    assert len({mail["Message-ID"] for mail in kept.mails}) == 1


async def test_who_runs_sends_what_it_is_woken_for_and_stops(
    outbox: MongoOutbox, delivery: Callable[[Inbox], Delivery]
) -> None:
    async with AsyncExitStack() as stack:
        kept = await stack.enter_async_context(inbox())
        running = delivery(kept)
        await stack.enter_async_context(running.running())
        for number in range(2):
            await outbox.put(mail(f"m{number}"))
            running.wake()
            assert kept.recipients[number : number + 1] == [] or number
            await kept.mail(number)
    assert kept.recipients == [["m0@example.org"], ["m1@example.org"]]


def test_a_lease_outlasts_a_letter_and_the_tries_what_is_kept() -> None:
    assert SEND_WITHIN_S * 1000 < LEASE_MS
    assert sum(pause_ms(tries, 1) for tries in range(1, MAX_TRIES)) < KEPT_MS


@given(st.integers(1, 100), st.floats(0, 1))
def test_pauses_grow_to_a_bound(tries: int, dice: float) -> None:
    assert FIRST_PAUSE_MS / 2 <= pause_ms(tries, dice) <= LONGEST_PAUSE_MS * 1.5
    assert pause_ms(tries, dice) <= pause_ms(tries + 1, dice)


def test_a_message_id_tells_nothing_and_is_of_one_mail() -> None:
    one, again, other = mail("reset:ada"), mail("reset:ada"), mail("reset:ada", at_ms=1)
    assert message_id(one) == message_id(again) != message_id(other)
    assert "ada" not in message_id(one)
