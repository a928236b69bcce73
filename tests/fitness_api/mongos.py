"""Something that answers like a mongos: MongoDB's wire protocol with the few commands of a migration.

No package has a mongos to run. This one keeps collections, indexes and shard keys in memory and refuses what a real
one refuses of them.
Source: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import bson

OP_MSG = 2013
Document = Mapping[str, Any]
HELLO = {
    "isWritablePrimary": True,
    "msg": "isdbgrid",
    "maxBsonObjectSize": 16 << 20,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "logicalSessionTimeoutMinutes": 30,
    "minWireVersion": 0,
    "maxWireVersion": 17,
    "ok": 1,
}


def refused(code: int, name: str, message: str) -> Document:
    return {"ok": 0, "code": code, "codeName": name, "errmsg": message}


def cursor(namespace: str, batch: list[Any]) -> Document:
    return {"cursor": {"id": 0, "ns": namespace, "firstBatch": batch}, "ok": 1}


@dataclass
class Mongos:
    indexes: dict[str, dict[str, Document]] = field(default_factory=dict)
    shard_keys: dict[str, Document] = field(default_factory=dict)
    not_empty: set[str] = field(default_factory=set)
    commands: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?serverMonitoringMode=poll"

    def answer(self, command: Document) -> Document:
        name, value = next(iter(command.items()))
        namespace = f"{command.get('$db')}.{value}"
        if name not in ("hello", "isMaster", "ismaster", "endSessions"):
            self.commands.append(f"{name} {value}")
        match name:
            case "hello" | "isMaster" | "ismaster":
                return HELLO | {name: 1}
            case "listCollections":
                names = [full.partition(".")[2] for full in self.indexes]
                return cursor(f"{command['$db']}.$cmd", [{"name": each, "type": "collection"} for each in names])
            case "listIndexes":
                return cursor(namespace, list(self.indexes[namespace].values()))
            case "find" if namespace == "config.collections":
                wanted = command["filter"]["_id"]["$in"]
                return cursor(
                    namespace, [{"_id": each, "key": key} for each, key in self.shard_keys.items() if each in wanted]
                )
            case "create":
                if namespace in self.indexes:
                    return refused(48, "NamespaceExists", "it exists")
                self.indexes[namespace] = {"_id_": {"v": 2, "key": {"_id": 1}, "name": "_id_"}}
            case "createIndexes":
                for index in command["indexes"]:
                    self.indexes[namespace][index["name"]] = {"v": 2, **index}
            case "shardCollection":
                return self.shard(value, command["key"])
            case "enableSharding" | "endSessions":
                pass
            case _:
                return refused(59, "CommandNotFound", f"no such command: {name}")
        return {"ok": 1}

    def shard(self, namespace: str, key: Document) -> Document:
        if self.shard_keys.get(namespace, key) != key:
            return refused(23, "AlreadyInitialized", "sharding already enabled with another key")
        first = list(key.items())
        indexes = self.indexes[namespace].values()
        if any(index.get("unique") and list(index["key"].items())[: len(first)] != first for index in indexes):
            return refused(72, "InvalidOptions", "a unique index is not prefixed by the shard key")
        if not any(list(index["key"].items())[: len(first)] == first for index in indexes):
            if namespace in self.not_empty:
                return refused(72, "InvalidOptions", "please create an index that starts with the shard key")
            name = "_".join(f"{part}_{direction}" for part, direction in first)
            self.indexes[namespace][name] = {"v": 2, "key": key, "name": name}
        self.shard_keys[namespace] = key
        return {"collectionsharded": namespace, "ok": 1}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                size, request, _, kind = struct.unpack("<iiii", await reader.readexactly(16))
                body = await reader.readexactly(size - 16)
                assert kind == OP_MSG
                payload = struct.pack("<iB", 0, 0) + bson.encode(self.answer(decoded(body)))
                writer.write(struct.pack("<iiii", 16 + len(payload), 0, request, kind) + payload)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def decoded(message: bytes) -> Document:
    """An OP_MSG body: flags, then one section of the command and sections of document sequences."""
    command: dict[str, Any] = {}
    at = 4
    while at < len(message):
        kind, size = message[at], int.from_bytes(message[at + 1 : at + 5], "little")
        section = message[at + 1 : at + 1 + size]
        if kind == 0:
            command = dict(bson.decode(section)) | command
        else:
            name, _, documents = section[4:].partition(b"\0")
            command[name.decode()] = bson.decode_all(documents)
        at += 1 + size
    return command


@asynccontextmanager
async def running(mongos: Mongos) -> AsyncIterator[Mongos]:
    server = await asyncio.start_server(mongos.serve, "127.0.0.1", 0)
    mongos.port = server.sockets[0].getsockname()[1]
    async with server:
        yield mongos
