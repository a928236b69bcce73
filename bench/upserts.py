"""Single upserts of a small document, majority-journaled, by many tasks of one process: the limit beside round trips.

    python -m bench.upserts MONGO_URL DATABASE TASKS SECONDS

Says `ready`, waits for a line, and then prints how long each upsert took.
"""

import asyncio
import json
import sys
import uuid
from time import perf_counter
from typing import Any

import uvloop
from pymongo import AsyncMongoClient

COLLECTION = "upserts"


async def _measure(mongo_url: str, database: str, tasks: int, seconds: float) -> list[float]:
    taken_s: list[float] = []
    async with AsyncMongoClient[dict[str, Any]](mongo_url, w="majority", journal=True) as client:
        collection = client[database][COLLECTION]
        # Connections are made before the start, as the gateway's were.
        await asyncio.gather(*(collection.find_one({"_id": None}) for _ in range(tasks)))
        print("ready", flush=True)  # noqa: T201 - to the process that started this one
        await asyncio.to_thread(sys.stdin.readline)
        until = perf_counter() + seconds

        async def upsert() -> None:
            user_id, written = str(uuid.uuid4()), 0
            while (began := perf_counter()) < until:
                # As the round trips do: one is new, the next changes it.
                name = f"{user_id}/{written // 2}"
                values = {"user_id": user_id, "title": "Evening session at the club", "rpe": written % 10}
                await collection.update_one({"_id": name}, {"$set": values}, upsert=True)
                taken_s.append(perf_counter() - began)
                written += 1

        await asyncio.gather(*(upsert() for _ in range(tasks)))
    return taken_s


if __name__ == "__main__":
    measured = uvloop.run(_measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
    print(json.dumps(measured))  # noqa: T201 - as above
