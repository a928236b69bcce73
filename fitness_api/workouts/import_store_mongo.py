"""Imports on MongoDB: `imports` holds `{_id: "<user>/<sha256>", …ImportRecord}`, `import_files` the originals in pieces,
`{_id: "<user>/<sha256>/<n>", user_id, data}`, each compressed by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec
import zstandard
from bson.binary import Binary
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from fitness_api.workouts.import_store import ImportRecord
from sync.errors import StoreUnavailable
from sync.errors_mongo import translated
from sync.removal_mongo import remove_all

IMPORTS: Final = "imports"
FILES: Final = "import_files"

COLLECTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    IMPORTS: {
        "shard_key": [("user_id", 1)],
        "indexes": [([("user_id", 1), ("import_id", 1)], {"name": "import_id"})],
    },
    # With `_id` in the key an account's files may be split, which at 64 MiB each they may have to be.
    FILES: {"shard_key": [("user_id", 1), ("_id", 1)], "indexes": []},
}

# Half of what a document may have, so that what does not compress fits too.
PIECE_BYTES: Final = 8 * 1024 * 1024


class MongoImportStore:
    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        durable, majority = WriteConcern("majority", j=True), ReadConcern("majority")
        self._imports = database.get_collection(IMPORTS, write_concern=durable, read_concern=majority)
        self._files = database.get_collection(FILES, write_concern=durable, read_concern=majority)

    async def find(self, user_id: str, sha256: str) -> ImportRecord | None:
        with translated():
            return _record(await self._imports.find_one({"_id": f"{user_id}/{sha256}", "user_id": user_id}))

    async def find_by_id(self, user_id: str, import_id: str) -> ImportRecord | None:
        with translated():
            return _record(await self._imports.find_one({"user_id": user_id, "import_id": import_id}, hint="import_id"))

    async def next(self, user_id: str, *, after: str) -> ImportRecord | None:
        # "0" follows "/".
        rest = {"_id": {"$gt": f"{user_id}/{after}", "$lt": f"{user_id}0"}, "user_id": user_id}
        with translated():
            return _record(await self._imports.find_one(rest, sort=[("_id", 1)], hint="_id_"))

    async def record(self, record: ImportRecord, file: bytes) -> bool:
        with translated():
            for number, start in enumerate(range(0, len(file), PIECE_BYTES)):
                piece = await asyncio.to_thread(zstandard.compress, file[start : start + PIECE_BYTES])
                key = {"_id": _piece_id(record, number), "user_id": record.user_id}
                # A piece that is there holds the same bytes, whatever made them: its name has their file's hash.
                await self._insert_once(self._files, {**key, "data": Binary(piece)})
            kept = msgspec.to_builtins(record)
            mine = {"_id": f"{record.user_id}/{record.sha256}", "user_id": record.user_id}
            if record.generation:
                older = {**mine, "generation": {"$lt": record.generation}}
                if (await self._imports.replace_one(older, {**mine, **kept})).modified_count == 1:
                    return True
            # Also of a later generation: the ones before may have been cut off before they were recorded.
            return await self._insert_once(self._imports, {**mine, **kept})

    async def separate(self, record: ImportRecord) -> None:
        mine = {"_id": f"{record.user_id}/{record.sha256}", "user_id": record.user_id}
        kept = msgspec.to_builtins(record)
        with translated():
            await self._imports.replace_one({**mine, "generation": record.generation}, {**mine, **kept})

    async def _insert_once(self, collection: Any, document: Mapping[str, Any]) -> bool:
        try:
            await collection.insert_one(document)
        except DuplicateKeyError:
            return False
        return True

    async def read_file(self, record: ImportRecord) -> AsyncIterator[bytes]:
        with translated():
            for number in range(-(-record.size_bytes // PIECE_BYTES)):
                piece = await self._files.find_one({"_id": _piece_id(record, number), "user_id": record.user_id})
                if piece is None:
                    raise StoreUnavailable("A piece of an imported file is missing.")
                yield await asyncio.to_thread(zstandard.decompress, piece["data"], PIECE_BYTES)

    async def erase(self, user_id: str) -> None:
        with translated():
            await remove_all(self._imports, user_id)  # first, so that no record is without its file
            await remove_all(self._files, user_id)


def _piece_id(record: ImportRecord, number: int) -> str:
    return f"{record.user_id}/{record.sha256}/{number}"


def _record(found: Mapping[str, Any] | None) -> ImportRecord | None:
    return None if found is None else msgspec.convert(found, ImportRecord)
