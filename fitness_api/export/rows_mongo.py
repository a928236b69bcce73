"""Rows of MongoDB's collections, whoever's adapter writes them."""

from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any

from bson.codec_options import CodecOptions
from bson.int64 import Int64
from bson.objectid import ObjectId
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from fitness_api.export.tables import Table
from sync.errors_mongo import translated


class MongoRows:
    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        self._database: AsyncDatabase[dict[str, Any]] = database.with_options(
            codec_options=CodecOptions(tz_aware=True), read_concern=ReadConcern("majority")
        )

    async def of(self, user_id: str, table: Table) -> AsyncIterator[dict[str, Any]]:
        shown = {"_id": 0} | {field: 1 for field, _, _ in _parts(table)}
        names = {field.partition(".")[0]: name or field.partition(".")[0] for field, _, name in _parts(table)}
        with translated():
            # Unsorted, so that the index by account is what it takes, and never the one by `_id`.
            async with self._database[table.collection].find({"user_id": user_id}, shown) as found:
                async for row in found:
                    yield {name: _json(row[field]) for field, name in names.items() if field in row}


def _parts(table: Table) -> Iterator[tuple[str, str, str]]:
    return (field.partition(" as ") for field in table.shown)


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, bytes):
        return urlsafe_b64encode(value).decode().rstrip("=")
    if isinstance(value, dict):
        return {name: _json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, Int64):  # the driver's own int, which is no int to an encoder
        return int(value)
    return str(value) if isinstance(value, ObjectId) else value
