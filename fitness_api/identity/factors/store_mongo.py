"""Second factors in MongoDB: one document an account, replaced as a whole where its version is still the one that was read."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from fitness_api.identity.factors.second_factors import SecondFactors
from fitness_api.identity.store_mongo import Document, durable, translated, user

_BY_USER: Final = [("user_id", 1)]

COLLECTIONS: Final[Mapping[str, dict[str, Any]]] = {
    "second_factors": {"shard_key": _BY_USER, "indexes": [(_BY_USER, {})]},
}

T = TypeVar("T")


class MongoFactorStore:
    def __init__(self, database: AsyncDatabase[Document]) -> None:
        # A code that was used must stay used after a fail-over, whatever the client's defaults.
        database = durable(database)
        self._held: AsyncCollection[Document] = database["second_factors"]

    async def held(self, user_id: str) -> SecondFactors:
        with translated():
            found = await self._held.find_one(user(user_id))
        return SecondFactors(user_id=user_id) if found is None else msgspec.convert(found, SecondFactors)

    async def change(self, user_id: str, decide: Callable[[SecondFactors], tuple[SecondFactors, T]]) -> T:
        while True:
            before = await self.held(user_id)
            after, outcome = decide(before)
            if after is before:
                return outcome
            if await self._replace(msgspec.structs.replace(after, version=before.version + 1), before.version):
                return outcome
            # Somebody else's change was stored in between, so that each round of this loop is somebody's progress.

    async def _replace(self, after: SecondFactors, version: int) -> bool:
        document = {**user(after.user_id), **msgspec.to_builtins(after, builtin_types=(bytes,))}
        with translated():
            if version:
                done = await self._held.replace_one({**user(after.user_id), "version": version}, document)
                return done.matched_count == 1
            try:
                await self._held.insert_one(document)
            except DuplicateKeyError:
                return False
        return True
