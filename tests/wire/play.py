"""Scripts to exchanges, and exchanges back to the server and to the device: each side is held to the file by itself."""

import asyncio
import copy
import json
import uuid
from base64 import b64decode, b64encode
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from sync import clock, digest, exchange, repair, values
from sync.changes import Format, SyncRequest
from sync.document import Key
from sync.replica import Replica
from sync.replica_repair import RepairAsk
from sync.replica_state import decode, encode
from sync.store_memory import MemoryStore

Json = dict[str, Any]

EXCHANGES: Final = Path(__file__).parent / "exchanges"
NOW_MS: Final = 1_767_225_600_000  # 2026-01-01T00:00:00Z
USER: Final = "5a1f7d9e-0000-4000-8000-000000000001"
DEVICE: Final = "5a1f7d9e-0000-4000-8000-00000000000a"
OTHER: Final = "5a1f7d9e-0000-4000-8000-00000000000b"
CURSOR_KEY: Final = bytes(range(32))
SEED: Final = 1


class Script(NamedTuple):
    """`steps` are the inputs: what users do, what time passes, what gets lost. Playing them adds what came of it."""

    about: str
    steps: list[Json]
    format: Format = "json"


def path_of(name: str) -> Path:
    return EXCHANGES / f"{name}.json"


def written(recorded: Json) -> str:
    return json.dumps(recorded, indent=1, ensure_ascii=False) + "\n"


def record(script: Script) -> Json:
    """Play both sides against one another."""
    return asyncio.run(_record(script))


async def _record(script: Script) -> Json:
    server = Server(script.format)
    device = Device(await server.replica_of(DEVICE))
    other = Device(await server.replica_of(OTHER), OTHER)
    steps: list[Json] = []
    for given in script.steps:
        step = dict(given)
        if step["do"] == "edit":
            step["change_id"] = str(uuid.UUID(int=len(steps) + 1))
            step["stamp"] = device.edit(step)
        elif step["do"] == "sync":
            step["request"] = device.request(step)
            await server.answer_into(step)
            if not step.get("lost"):
                device.receive(step)
                step["holds"] = device.holds()
        elif step["do"] == "other":
            for number, change in enumerate(step["changes"]):
                change.setdefault("id", str(uuid.UUID(int=1_000_000 + 1000 * len(steps) + number)))
            cursor = {"cursor": other.replica.cursor} if step.pop("follows", False) else {"cursor": ""}
            step["request"] = {"device_id": OTHER, **cursor, "limit": 500, "changes": step.pop("changes")}
            await server.answer_into(step)
            other.replica.cursor = server.decoded(step)["cursor"]
        elif step["do"] == "repair":
            step |= device.ask()
            await server.repair_into(step)
            device.receive_repair(step)
            step["holds"] = device.holds()
        else:
            await server.suffer(step)
            device.suffer(step)
        steps.append(step)
    return {
        "about": script.about,
        "format": script.format,
        "user_id": USER,
        "device": {"device_id": DEVICE, "replica": device.replica.number},
        "other": {"device_id": OTHER, "replica": other.replica.number},
        "steps": steps,
    }


async def replay_server(recorded: Json) -> None:
    """The requests of the file to a server as it was at the beginning: it must answer what the file says, byte by byte."""
    server = Server(recorded["format"])
    for name in ("device", "other"):
        assert await server.replica_of(recorded[name]["device_id"]) == recorded[name]["replica"]
    for expected in recorded["steps"]:
        step = {
            name: value for name, value in expected.items() if name not in {"response", "response_msgpack", "conflicts"}
        }
        if step["do"] in {"sync", "other"}:
            await server.answer_into(step)
        elif step["do"] == "repair":
            await server.repair_into(step)
        else:
            await server.suffer(step)
        assert json.dumps(step) == json.dumps({**step, **expected})


def replay_device(recorded: Json) -> None:
    """The responses of the file to a device: it must ask what the file says, and hold what the file says."""
    device = Device(recorded["device"]["replica"], recorded["device"]["device_id"])
    for step in recorded["steps"]:
        match step["do"]:
            case "edit":
                assert device.edit(step) == step["stamp"]
            case "sync":
                assert device.request(step) == step["request"]
                if not step.get("lost"):
                    device.receive(step)
                    assert device.holds() == step["holds"]
            case "repair":
                assert device.ask() == {"path": step["path"], "request": step["request"]}
                device.receive_repair(step)
                assert device.holds() == step["holds"]
            case _:
                device.suffer(step)


class Server:
    def __init__(self, wire_format: Format) -> None:
        self.store = MemoryStore(Random(SEED))
        self.format: Format = wire_format
        self.now_ms = NOW_MS
        self._backup = self.store

    async def replica_of(self, device_id: str) -> int:
        return await self.store.register_device(USER, device_id)

    async def answer_into(self, step: Json) -> None:
        request, is_json = step["request"], self.format == "json"
        encoder = msgspec.json.encode if is_json else msgspec.msgpack.encode
        wire = msgspec.convert(request | {"changes": []}, SyncRequest)
        wire = msgspec.structs.replace(wire, changes=[Raw(encoder(change)) for change in request["changes"]])
        if not is_json:
            step["request_msgpack"] = b64encode(encoder(request)).decode()
        response = await exchange.round_trip(
            self.store,
            wire,
            user_id=USER,
            cursor_key=CURSOR_KEY,
            received=self.format,
            answered=self.format,
            now_ms=self.now_ms,
        )
        body = encoder(response)
        step["response"] = json.loads(body) if is_json else msgspec.msgpack.decode(body)
        if not is_json:
            step["response_msgpack"] = b64encode(body).decode()

    @staticmethod
    def decoded(step: Json) -> Json:
        if "response_msgpack" in step:
            from_bytes: Json = msgspec.msgpack.decode(b64decode(step["response_msgpack"]))
            return from_bytes
        given: Json = step["response"]
        return given

    async def repair_into(self, step: Json) -> None:
        asked = step["request"]
        if step["path"] == "/v1/sync/digest":
            sums = await repair.digests(self.store, USER, asked["collection"])
            step["response"] = {"collection": asked["collection"], "digests": [digest.to_wire(one) for one in sums]}
            return
        fetched = await repair.fetch(
            self.store, USER, asked["collection"], asked["bucket"], after=asked.get("after", 0), answered="json"
        )
        step["response"] = {"documents": json.loads(msgspec.json.encode(fetched.documents)), "more": False}

    async def suffer(self, step: Json) -> None:
        match step["do"]:
            case "later":
                self.now_ms += step["ms"]
            case "back_up":
                self._backup = copy.deepcopy(self.store)
            case "restore":
                self.store = copy.deepcopy(self._backup)
                self.store._dice.seed(SEED + 1)  # an epoch is never drawn twice
                await self.store.bump_epoch(USER)
            case "conflicts":
                found, _ = await self.store.conflicts(USER, below=None, limit=100, now_ms=self.now_ms)
                step["conflicts"] = [
                    {
                        "collection": one.key.collection,
                        "doc": one.key.id,
                        "path": one.path,
                        "lost": {"stamp": clock.to_wire(one.lost_stamp), "value": values.to_python(one.lost_value)},
                        "kept": {"stamp": clock.to_wire(one.won_stamp), "value": values.to_python(one.won_value)},
                    }
                    for one in found
                ]


class Device:
    def __init__(self, number: int, device_id: str = DEVICE) -> None:
        self.replica = Replica(device_id, number)

    def edit(self, step: Json) -> str:
        stamp = self.replica.edit(
            step["collection"], step["doc"], step["set"], change_id=step["change_id"], now_ms=step["wall_ms"]
        )
        return clock.to_wire(stamp)

    def request(self, step: Json) -> Json:
        return self.replica.request(limit=step.get("limit", 500))

    def receive(self, step: Json) -> None:
        self.replica.receive(step["request"], Server.decoded(step))

    def ask(self) -> Json:
        path, body = self.replica.repair_request()
        return {"path": path, "request": body}

    def receive_repair(self, step: Json) -> None:
        self.replica.receive_repair(RepairAsk(step["path"], step["request"]), step["response"])

    def suffer(self, step: Json) -> None:
        match step["do"]:
            case "choose":
                self.replica.collections = step["collections"] and tuple(step["collections"])
            case "lose":
                stored = decode(self.replica.snapshot())
                kept = [one for one in stored.answered if f"{one.collection}/{one.id}" != step["document"]]
                self.replica = Replica.restore(encode(msgspec.structs.replace(stored, answered=kept)))
            case "restart":
                self.replica = Replica.restore(self.replica.snapshot())

    def holds(self) -> Json:
        """What a device of any make must then hold."""
        replica = self.replica
        return {
            "answered": {
                _name(key): {
                    path: [clock.to_wire(one.stamp), values.to_python(one.value)] for path, one in sorted(held.items())
                }
                for key, held in sorted(replica.answered.items())
            },
            "sums": {name: one for name, one in replica.digests().items() if one != "0" * 16},
            "queue": sorted(replica.unsent),
            "shown": {_name(key): dict(sorted(replica.shown(key).items())) for key in sorted(replica.known())},
            "wants": "repair" if replica.wants_to_repair else "sync" if replica.wants_to_sync else "nothing",
        }


def _name(key: Key) -> str:
    return f"{key.collection}/{key.id}"
