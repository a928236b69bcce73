"""Registered clients, in MongoDB: a few hundred at most, so not sharded."""

from collections.abc import Mapping
from typing import Any, Final

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from fitness_api.identity.authorization.clients import Client
from fitness_api.identity.store_mongo import OF_CLIENT, Document, date, durable, ms, translated

COLLECTIONS: Final[Mapping[str, dict[str, Any]]] = {"oauth_clients": {"shard_key": None, "indexes": []}}


class MongoClientStore:
    def __init__(self, database: AsyncDatabase[Document]) -> None:
        database = durable(database)
        self._clients: AsyncCollection[Document] = database["oauth_clients"]
        self._sessions: AsyncCollection[Document] = database["sessions"]

    async def add(self, client: Client, *, most: int) -> bool:
        with translated():
            if await self._clients.count_documents({}, limit=most) >= most:
                return False
            # Sent again, it stands where it stood.
            await self._clients.replace_one({"_id": client.client_id}, _document(client), upsert=True)
        return True

    async def client(self, client_id: str) -> Client | None:
        with translated():
            found = await self._clients.find_one({"_id": client_id})
        return None if found is None else _client(found)

    async def clients(self, *, after: str, limit: int) -> list[Client]:
        with translated():
            found = self._clients.find({"_id": {"$gt": after}}).sort("_id").limit(limit)
            return [_client(document) async for document in found]

    async def remove(self, client_id: str) -> bool:
        with translated():
            done = await self._clients.delete_one({"_id": client_id})
        return done.deleted_count == 1

    async def sessions_of(self, client_id: str, *, limit: int) -> list[tuple[str, str]]:
        with translated():
            local = self._sessions.with_options(read_concern=ReadConcern("local"))
            found = local.find({"given_to": client_id}, {"user_id": 1, "session_id": 1}, hint=OF_CLIENT, limit=limit)
            return [(session["user_id"], session["session_id"]) async for session in found]


def _document(client: Client) -> Document:
    return {
        "_id": client.client_id,
        "name": client.name,
        "redirect_uris": list(client.redirect_uris),
        "grant_types": list(client.grant_types),
        "scopes": list(client.scopes),
        "secret_digest": client.secret_digest,
        "created_at": date(client.created_at_ms),
    }


def _client(found: Document) -> Client:
    return Client(
        client_id=found["_id"],
        name=found["name"],
        redirect_uris=tuple(found["redirect_uris"]),
        grant_types=tuple(found["grant_types"]),
        scopes=tuple(found["scopes"]),
        secret_digest=found["secret_digest"],
        created_at_ms=ms(found["created_at"]),
    )
