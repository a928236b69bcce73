"""Removing all that an account has in a collection whose ids begin with the user's: `<user>/…`."""

from collections.abc import Collection
from typing import Any, Final

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.read_concern import ReadConcern

# A command each: short enough for the driver's time limit, and what was removed stays removed when the next one fails.
_RECORDS_AT_ONCE: Final = 500


async def remove_all(collection: AsyncCollection[dict[str, Any]], user_id: str, *, but: Collection[str] = ()) -> None:
    """Remove them, so many at a time, until none is found; `but` these ids. Cut off, it is called again.

    Reads what no majority has yet: it may be a write of just now that would be seen too late.
    """
    found = collection.with_options(read_concern=ReadConcern("local"))
    # "0" follows "/".
    owned = {"_id": {"$gte": f"{user_id}/", "$lt": f"{user_id}0", "$nin": list(but)}, "user_id": user_id}
    while True:
        cursor = found.find(owned, {"_id": 1}, limit=_RECORDS_AT_ONCE, hint="_id_")
        ids = [record["_id"] async for record in cursor]
        if not ids:
            return
        await collection.delete_many({"_id": {"$in": ids}, "user_id": user_id}, hint="_id_")
