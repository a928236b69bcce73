from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity import refresh_tokens
from fitness_api.identity.authorization.client_store_mongo import MongoClientStore
from fitness_api.identity.authorization.clients import Client
from fitness_api.identity.store_mongo import MongoStore

CLIENT = Client(
    client_id="c1",
    name="Coach",
    redirect_uris=("https://coach.example/",),
    grant_types=("authorization_code",),
    scopes=("sync",),
    secret_digest=b"d" * 32,
    created_at_ms=1_700_000_000_123,
)


@pytest.fixture
def clients(database: AsyncDatabase[dict[str, Any]]) -> MongoClientStore:
    return MongoClientStore(database)


async def test_what_was_added_is_read_by_its_id(clients: MongoClientStore) -> None:
    assert await clients.add(CLIENT, most=9)
    assert await clients.add(CLIENT, most=9)
    assert await clients.client("c1") == CLIENT
    assert await clients.client("c2") is None


async def test_there_are_so_many_at_most(clients: MongoClientStore) -> None:
    for number in range(3):
        assert await clients.add(replace(CLIENT, client_id=f"c{number}"), most=3)
    assert not await clients.add(replace(CLIENT, client_id="c9"), most=3)


async def test_they_are_listed_by_their_ids(clients: MongoClientStore) -> None:
    for number in (2, 0, 1):
        await clients.add(replace(CLIENT, client_id=f"c{number}"), most=9)
    assert [client.client_id for client in await clients.clients(after="", limit=2)] == ["c0", "c1"]
    assert [client.client_id for client in await clients.clients(after="c1", limit=2)] == ["c2"]


async def test_removed_it_is_gone(clients: MongoClientStore) -> None:
    await clients.add(CLIENT, most=9)
    assert await clients.remove("c1")
    assert not await clients.remove("c1")
    assert await clients.client("c1") is None


async def test_what_was_given_to_it_is_found_and_nothing_else(
    clients: MongoClientStore, database: AsyncDatabase[dict[str, Any]]
) -> None:
    store, coach = MongoStore(database), str(UUID(int=2**128 - 1))
    for user, client_id in (("u1", coach), ("u2", coach), ("u1", str(UUID(int=0))), ("u1", "app"), ("u2", "pages")):
        session = refresh_tokens.begin(
            user_id=user,
            session_id=str(uuid4()),
            client_id=client_id,
            scopes=(),
            user_agent="",
            now_ms=4_000_000_000_000,
        )
        await store.add_session(session)
    found = await clients.sessions_of(coach, limit=9)
    assert sorted(user for user, _ in found) == ["u1", "u2"]
    assert len(await clients.sessions_of(coach, limit=1)) == 1
