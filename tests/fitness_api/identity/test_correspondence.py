"""What becomes a letter; the letters themselves are read in test_recovery and mail/test_templates."""

from typing import Any, get_args

import pymongo
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity.audit import AuditEvent, Kind, Origin
from fitness_api.identity.audit_store_mongo import MongoAuditStore
from fitness_api.identity.correspondence import NOTICES, UNTOLD, Correspondence
from fitness_api.identity.errors import StoreUnavailable
from fitness_api.identity.recovery_store_mongo import MongoRecoveryStore
from fitness_api.identity.single_use_mongo import MongoSingleUse
from fitness_api.identity.store_mongo import MongoStore
from fitness_api.mail.errors import MailDeferred
from fitness_api.mail.outbox import Outgoing
from fitness_api.mail.outbox_mongo import MongoOutbox
from tests.fitness_api.identity.conftest import Clock


@pytest.fixture
def correspondence(database: AsyncDatabase[dict[str, Any]], clock: Clock) -> Correspondence:
    return Correspondence(
        MongoStore(database),
        MongoRecoveryStore(database),
        MongoSingleUse(database),
        MongoAuditStore(database),
        MongoOutbox(database),
        public_url="http://api.test/",
        service="Fitness",
        now_ms=clock,
    )


def event(kind: Kind, **more: Any) -> AuditEvent:
    return AuditEvent(**{"event_id": "e1", "user_id": "u1", "at_ms": 1, "kind": kind, "origin": Origin(), **more})


def test_every_kind_of_event_is_told_or_has_a_reason_not_to() -> None:
    kinds = set(get_args(Kind))
    assert set(UNTOLD).isdisjoint(NOTICES)
    assert kinds - set(UNTOLD) <= set(NOTICES)
    assert set(UNTOLD) <= kinds


async def test_an_event_waits_as_one_letter_or_two_where_the_address_changed(
    correspondence: Correspondence, database: AsyncDatabase[dict[str, Any]]
) -> None:
    outbox = MongoOutbox(database)
    for _ in range(2):  # an event that is told twice is told once
        await correspondence.announce(event("password_changed"))
    assert [outgoing.kind for outgoing in await outbox.of("u1")] == ["password_changed"]
    await correspondence.announce(event("session_ended", event_id="e2"))
    assert len(await outbox.of("u1")) == 1
    moved = event(
        "email_changed",
        event_id="e3",
        details={"old_address": "a@b.example", "new_address": "c@d.example", "told": "both"},
    )
    await correspondence.announce(moved)
    assert {outgoing.address for outgoing in await outbox.of("u1")} == {None, "a@b.example"}


async def test_who_is_no_more_gets_no_letter(correspondence: Correspondence) -> None:
    for outgoing in (
        Outgoing(mail_id="m1", kind="password_changed", user_id="nobody", created_at_ms=1),
        Outgoing(mail_id="m2", kind="reset_password", address="nobody@example.org", created_at_ms=1),
    ):
        assert await correspondence.compose(outgoing) is None


async def test_a_database_that_does_not_answer_is_said_to_the_request_and_defers_the_letter(
    correspondence: Correspondence,
) -> None:
    with pymongo.timeout(1e-6):
        with pytest.raises(StoreUnavailable):
            await correspondence.announce(event("password_changed"))
        with pytest.raises(MailDeferred):
            await correspondence.compose(
                Outgoing(mail_id="m1", kind="reset_password", address="a@b.c", created_at_ms=1)
            )
