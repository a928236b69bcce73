"""A server for devices in tests: the real exchange and repair over the memory store."""

import hashlib
import uuid
from typing import Any

import msgspec
from msgspec import Raw

from sync import clock, digest, exchange, repair
from sync.changes import SyncRequest
from sync.document import Key
from sync.replica import Replica
from sync.replica_repair import RepairAsk
from sync.store import Store
from tests.sync.model import CURSOR_KEY, NOW_MS, comparable, stored_registers

Json = dict[str, Any]
USER = "5a1f7d9e-0000-4000-8000-000000000001"
IDS = [str(uuid.UUID(int=n)) for n in range(1, 4)]


async def device(store: Store, **options: Any) -> Replica:
    device_id = str(uuid.uuid4())
    return Replica(device_id, await store.register_device(USER, device_id), **options)


async def answer(store: Store, request: Json, *, now_ms: int = NOW_MS) -> Json:
    wire = msgspec.convert(request | {"changes": []}, SyncRequest)
    wire = msgspec.structs.replace(wire, changes=[Raw(msgspec.json.encode(one)) for one in request["changes"]])
    response = await exchange.round_trip(
        store, wire, user_id=USER, cursor_key=CURSOR_KEY, received="json", answered="json", now_ms=now_ms
    )
    decoded: Json = msgspec.json.decode(msgspec.json.encode(response))
    return decoded


async def answer_repair(store: Store, ask: RepairAsk, *, page: int | None = None) -> Json:
    """What POST /v1/sync/digest and /fetch answer; of a page, only its first `page` documents."""
    collection = ask.body["collection"]
    if ask.path == "/v1/sync/digest":
        sums = await repair.digests(store, USER, collection)
        return {"collection": collection, "digests": [digest.to_wire(one) for one in sums]}
    bucket, after = ask.body["bucket"], ask.body.get("after", 0)
    fetched = await repair.fetch(store, USER, collection, bucket, after=after, answered="json")
    documents: list[Json] = msgspec.json.decode(msgspec.json.encode(fetched.documents))
    if page is not None and len(documents) > page:
        return {"documents": documents[:page], "more": True, "after": documents[page - 1]["seq"]}
    return {"documents": documents, "more": False}


def sum_of(registers: Json, key: Key) -> int:
    """The contract's formula, without the code under test."""
    texts = [f"{key.collection}/{key.id}/{path}={stamp:016x}" for path, (_, stamp) in registers.items()]
    return sum(int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) for text in texts)


async def digests(store: Store) -> dict[str, str]:
    sums: dict[str, int] = {}
    for key, registers in (await stored_registers(store, USER)).items():
        sums[key.collection] = sums.get(key.collection, 0) + sum_of(registers, key)
    return {name: f"{one % 2**64:016x}" for name, one in sums.items()}


async def sync(store: Store, replica: Replica, *, limit: int = 500, now_ms: int = NOW_MS) -> None:
    """Until there is nothing left to say or to mend."""
    for trip in range(1000):
        if trip and not replica.wants_to_sync and not replica.wants_to_repair:
            return
        request = replica.request(limit=limit)
        replica.receive(request, await answer(store, request, now_ms=now_ms))
        if replica.wants_to_repair:
            await repair_step(store, replica)
    raise AssertionError("The queue does not drain.")


async def repair_step(store: Store, replica: Replica) -> None:
    ask = replica.repair_request()
    replica.receive_repair(ask, await answer_repair(store, ask))


def registers(replica: Replica) -> dict[Key, dict[str, tuple[bytes, clock.Stamp]]]:
    return {key: comparable(dict(held)) for key, held in replica.answered.items()}


async def expected(store: Store) -> dict[Key, dict[str, tuple[bytes, clock.Stamp]]]:
    return {key: comparable(held) for key, held in (await stored_registers(store, USER)).items()}


def edit(replica: Replica, document_id: str, given: Json, *, now_ms: int = NOW_MS, name: str | None = None) -> None:
    replica.edit("workouts", document_id, given, change_id=name or str(uuid.uuid4()), now_ms=now_ms)
