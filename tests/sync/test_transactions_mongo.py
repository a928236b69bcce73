"""What a line of one account's writers does when its head does not come on. What it does else is in test_store_mongo."""

import asyncio
from typing import Any

import pytest
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from sync import transactions_mongo
from sync.errors import StoreUnavailable
from sync.store_mongo import RECORDS
from sync.transactions_mongo import Line
from tests.sync.model import new_id


async def test_who_waits_too_long_in_line_is_sent_away(
    database: AsyncDatabase[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction on a primary that froze takes as long as the driver waits, and those behind it would add theirs to it."""
    monkeypatch.setattr(transactions_mongo, "_PATIENCE_S", 0.05)
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def make_head(user_id: str) -> None:
        raise AssertionError(user_id)

    async def hangs(session: AsyncClientSession) -> str:
        began.set()
        await goes_on.wait()
        return "done"

    async def does_not(session: AsyncClientSession) -> str:
        return "done, too"

    line = Line(database[RECORDS], make_head)
    user_id = new_id()
    first = asyncio.create_task(line.run(user_id, hangs))
    await began.wait()
    assert await line.run(new_id(), does_not) == "done, too"
    with pytest.raises(StoreUnavailable):
        await line.run(user_id, does_not)
    goes_on.set()
    assert await first == "done"
    assert await line.run(user_id, does_not) == "done, too"
