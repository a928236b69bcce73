"""What a workout takes at rest, and how much of it is there for synchronisation's sake."""

import random
from collections.abc import Mapping
from typing import Any

import httpx
import uvloop
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from rich.console import Console

from bench import servers, workload
from bench.device import Device, load, signed_up
from bench.tables import table
from sync.records_mongo import Record
from sync.store_mongo import RECORDS

WORKOUTS = 16_000
# Half of the workouts are never edited, a quarter once, a quarter four times; each time three fields that are drawn.
EDITED, EDITED_AGAIN, TIMES_AGAIN = 1 / 2, 1 / 4, 3
WORKOUTS_ONLY = {"collection": "workouts"}


def run(console: Console, *, quick: bool) -> None:
    uvloop.run(_measure(console, count=WORKOUTS // 10 if quick else WORKOUTS))


async def _measure(console: Console, *, count: int) -> None:
    records = table(
        f"{count:,} workouts at rest: bytes of BSON each, and per cent",
        "when", "record", "value", "stamps", "the rest", "stamps", "all but value",
    )  # fmt: skip
    storage = table(
        "Compressed, in new collections: storageSize each, and per cent",
        "when", "record", "without stamps", "value only", "stamps", "all but value",
    )  # fmt: skip
    written = table("As it was written (sync_records): bytes each", "when", "storageSize", "free in it", "indexes")
    async with servers.running() as running, AsyncMongoClient[Record](running.mongo_url) as client:
        database = client[servers.DATABASE]
        dice = random.Random(workload.SEED)
        workouts = {name: workload.told_workout(dice) for name in workload.workout_ids(dice, count)}
        names = [*workouts]
        edited = [names[: int(count * EDITED)], *([names[: int(count * EDITED_AGAIN)]] * TIMES_AGAIN)]
        uploads = {
            "created": [[*workouts.items()]],
            "partly edited": [[(name, workload.edit(dice, workouts[name])) for name in some] for some in edited],
        }
        async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
            device = Device(await signed_up(http, running.gateway.urls[0]))
        for when, work in uploads.items():
            for changes in work:
                await load(device, changes)
            records.add_row(when, *await _bson(database, count))
            storage.add_row(when, *await _compressed(database, count))
            held = await _held(database, RECORDS)
            written.add_row(when, *(f"{size / count:,.0f}" for size in held))
        device.close()
    for shown in (records, storage, written):
        console.print(shown)


async def _bson(database: AsyncDatabase[Record], count: int) -> list[str]:
    """Measured by the server. A field's bytes are those that its record lacks without it."""

    def bytes_without(field: str) -> dict[str, Any]:
        return {"$sum": {"$bsonSize": {"$unsetField": {"field": field, "input": "$$ROOT"}}}}

    group = {
        "_id": None,
        "count": {"$sum": 1},
        "whole": {"$sum": {"$bsonSize": "$$ROOT"}},
        "valueless": bytes_without("value"),
        "stampless": bytes_without("stamps"),
    }
    cursor = await database[RECORDS].aggregate([{"$match": WORKOUTS_ONLY}, {"$group": group}])
    (sums,) = await cursor.to_list()
    if sums["count"] != count:
        raise AssertionError(f"{sums['count']} workouts of {count}")
    whole, valueless, stampless = (float(sums[name]) for name in ("whole", "valueless", "stampless"))
    stamps = whole - stampless
    sizes = (whole, whole - valueless, stamps, valueless - stamps)
    return [*(f"{size / count:,.0f}" for size in sizes), f"{stamps / whole:.1%}", f"{valueless / whole:.1%}"]


async def _compressed(database: AsyncDatabase[Record], count: int) -> list[str]:
    """New collections, so that no room that changed records left behind is counted."""
    stages: Mapping[str, list[dict[str, Any]]] = {
        "rest_whole": [],
        "rest_stampless": [{"$unset": "stamps"}],
        "rest_value": [{"$project": {"_id": "$seq", "value": 1}}],
    }
    sizes = []
    for name, shaping in stages.items():
        await database[RECORDS].aggregate([{"$match": WORKOUTS_ONLY}, *shaping, {"$out": name}])
        sizes.append((await _held(database, name))[0])
    whole, stampless, value = sizes
    shown = [f"{size / count:,.0f}" for size in sizes]
    return [*shown, f"{(whole - stampless) / whole:.1%}", f"{(whole - value) / whole:.1%}"]


async def _held(database: AsyncDatabase[Record], name: str) -> tuple[float, float, float]:
    """Return storageSize, what of it is free, and the size of all indexes: as of a checkpoint that is made for it."""
    await database.client.admin.command("fsync")
    cursor = await database[name].aggregate([{"$collStats": {"storageStats": {}}}])
    (stats,) = await cursor.to_list()
    found = stats["storageStats"]
    return float(found["storageSize"]), float(found.get("freeStorageSize", 0)), float(found["totalIndexSize"])
