"""Brings a database to what the MongoDB adapters declare: collections, indexes and, behind a mongos, shard keys.

Collections are made here and never by a first write: inside a transaction that would be slower, and on a sharded
cluster it is refused when the write spans shards. Running it again does nothing; nothing is ever dropped.

    survey(database) -> Survey          what is there (reads only)
    plan(COLLECTIONS, survey) -> steps  what is missing (pure); raises MigrationRefused where what is there contradicts
    apply(database, steps)              makes it so

Source: https://www.mongodb.com/docs/manual/reference/command/shardCollection/
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, assert_never

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure, PyMongoError

from fitness_api import leases_mongo as leases
from fitness_api.identity import audit_store_mongo as audit_store
from fitness_api.identity import single_use_mongo as single_use
from fitness_api.identity import store_mongo as identity_store
from fitness_api.identity.authorization import client_store_mongo as client_store
from fitness_api.identity.authorization import device_store_mongo as device_store
from fitness_api.identity.factors import store_mongo as factor_store
from fitness_api.identity.federation import store_mongo as identities_store
from fitness_api.mail import outbox_mongo as outbox
from fitness_api.statistics import fact_store_mongo as fact_store
from fitness_api.workouts import import_store_mongo as import_store
from sync import store_mongo as sync_store
from sync import track_store_mongo as track_store

Keys = Sequence[tuple[str, int | str]]
Collections = Mapping[str, Mapping[str, Any]]

ADAPTERS: tuple[ModuleType, ...] = (
    identity_store,
    audit_store,
    factor_store,
    client_store,
    device_store,
    identities_store,
    single_use,
    outbox,
    import_store,
    leases,
    sync_store,
    track_store,
    fact_store,
)

# What makes an index another index. Everything else that listIndexes tells (v, ns, weights) is the server's own.
INDEX_OPTIONS = ("unique", "sparse", "expireAfterSeconds", "partialFilterExpression", "collation", "hidden")
# Server error codes.
NAMESPACE_EXISTS = 48


class MigrationRefused(Exception):
    """What is there contradicts what is declared, or the server refused a step; an operator has to decide."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a database holds: its collections' indexes as listIndexes tells them, and shard keys behind a mongos."""

    database: str
    sharded: bool
    indexes: Mapping[str, Sequence[Mapping[str, Any]]]
    shard_keys: Mapping[str, Keys]


@dataclass(frozen=True)
class MakeCollection:
    collection: str

    def __str__(self) -> str:
        return f"make collection {self.collection}"


@dataclass(frozen=True)
class MakeIndex:
    collection: str
    keys: tuple[tuple[str, int | str], ...]
    options: Mapping[str, Any]

    def __str__(self) -> str:
        rest = ", ".join(f"{name} {value}" for name, value in self.options.items() if name != "name")
        return f"make index {index_name(self.keys, self.options)} on {self.collection}{f' ({rest})' if rest else ''}"


@dataclass(frozen=True)
class EnableSharding:
    database: str

    def __str__(self) -> str:
        return f"enable sharding of {self.database}"


@dataclass(frozen=True)
class ShardCollection:
    collection: str
    key: tuple[tuple[str, int | str], ...]

    def __str__(self) -> str:
        return f"shard {self.collection} on {shown(self.key)}"


Step = MakeCollection | MakeIndex | EnableSharding | ShardCollection


def declared() -> dict[str, Mapping[str, Any]]:
    """Raises ValueError if two adapters declare one collection; each collection has one owner."""
    found: dict[str, Mapping[str, Any]] = {}
    for adapter in ADAPTERS:
        for collection, wanted in adapter.COLLECTIONS.items():
            if collection in found:
                raise ValueError(f"{collection} is declared twice, the second time by {adapter.__name__}.")
            found[collection] = wanted
    return found


def shown(keys: Keys) -> str:
    return "{" + ", ".join(f"{field}: {direction}" for field, direction in keys) + "}"


def index_name(keys: Keys, options: Mapping[str, Any]) -> str:
    """The name given, or the one that drivers make: `user_id_1_seq_-1`."""
    return str(options.get("name", "_".join(f"{field}_{direction}" for field, direction in keys)))


def plan(collections: Collections, survey: Survey) -> list[Step]:
    """Returns what is missing, in the order to make it: an index before the sharding that needs it.

    Raises MigrationRefused if an index of that name is another one, or a collection is sharded on another key.
    """
    steps: list[Step] = []
    for name, wanted in sorted(collections.items()):
        shard_key: Keys | None = wanted["shard_key"]
        indexes: list[tuple[Keys, Mapping[str, Any]]] = list(wanted["indexes"])
        existing = {index["name"]: index for index in survey.indexes.get(name, ())}
        if survey.sharded and shard_key:
            present = [(list(index["key"].items()), index) for index in existing.values()]
            if not any(_supports(keys, options, shard_key) for keys, options in (*indexes, *present)):
                # shardCollection makes this index by itself, but only while the collection is empty.
                indexes.append((shard_key, {"name": "shard_key"}))
        if name not in survey.indexes:
            steps.append(MakeCollection(name))
        for keys, options in indexes:
            index = existing.get(index_name(keys, options))
            if index is None:
                steps.append(MakeIndex(name, tuple(keys), options))
            else:
                _require_same(name, index, keys, options)
        if survey.sharded and shard_key:
            actual = survey.shard_keys.get(name)
            if actual is None:
                steps.append(ShardCollection(name, tuple(shard_key)))
            elif list(actual) != list(shard_key):
                raise MigrationRefused(
                    f"{name} is sharded on {shown(actual)} and should be on {shown(shard_key)}; "
                    "reshard it (reshardCollection), then migrate again."
                )
    if any(isinstance(step, ShardCollection) for step in steps):
        steps.insert(0, EnableSharding(survey.database))
    return steps


def _supports(keys: Keys, options: Mapping[str, Any], shard_key: Keys) -> bool:
    """An index serves sharding when it begins with the key and leaves no document out."""
    whole = not {"sparse", "partialFilterExpression", "collation"} & options.keys()
    return whole and list(keys[: len(shard_key)]) == list(shard_key)


def _require_same(collection: str, index: Mapping[str, Any], keys: Keys, options: Mapping[str, Any]) -> None:
    name = index["name"]
    if list(index["key"].items()) != list(keys):
        raise MigrationRefused(
            f"The index {name} of {collection} has the keys {shown(list(index['key'].items()))} and should have "
            f"{shown(keys)}; drop it, then migrate again."
        )
    for option in INDEX_OPTIONS:
        have, want = index.get(option) or None, options.get(option) or None
        # A server answers a collation with every member filled in.
        same = (want or {}).items() <= (have or {}).items() if option == "collation" else have == want
        if not same:
            raise MigrationRefused(
                f"The index {name} of {collection} has {option} {have} and should have {want}; "
                "drop it or change it (collMod), then migrate again."
            )


async def survey(database: AsyncDatabase[dict[str, Any]]) -> Survey:
    hello = await database.command("hello")
    sharded = hello.get("msg") == "isdbgrid"
    names = [name for name in await database.list_collection_names() if not name.startswith("system.")]
    indexes = {name: [dict(index) async for index in await database[name].list_indexes()] for name in names}
    shard_keys: dict[str, Keys] = {}
    if sharded:
        config = database.client["config"]["collections"]
        namespaces = {f"{database.name}.{name}": name for name in names}
        async for row in config.find({"_id": {"$in": sorted(namespaces)}}):
            # From 8.0 on, collections that were moved whole are listed too, with a key that means nothing.
            if not row.get("dropped") and not row.get("unsplittable"):
                shard_keys[namespaces[row["_id"]]] = list(row["key"].items())
    return Survey(database=database.name, sharded=sharded, indexes=indexes, shard_keys=shard_keys)


async def apply(
    database: AsyncDatabase[dict[str, Any]], steps: Sequence[Step], *, report: Callable[[Step], None] = lambda _: None
) -> None:
    """Each step is atomic and may be repeated; two migrations at once end in one result.

    Raises MigrationRefused if the server refuses a step.
    """
    for step in steps:
        report(step)
        try:
            await _apply(database, step)
        except OperationFailure as error:
            raise MigrationRefused(f"{database.name}: could not {step}: {error.details or error}") from error


async def _apply(database: AsyncDatabase[dict[str, Any]], step: Step) -> None:
    match step:
        case MakeCollection(collection):
            try:
                await database.create_collection(collection, check_exists=False)
            except OperationFailure as error:
                if error.code != NAMESPACE_EXISTS:  # Another migration was quicker.
                    raise
        case MakeIndex(collection, keys, options):
            await database[collection].create_index(list(keys), **options)
        case EnableSharding(name):
            await database.client.admin.command("enableSharding", name)
        case ShardCollection(collection, key):
            await database.client.admin.command("shardCollection", f"{database.name}.{collection}", key=dict(key))
        case _:
            assert_never(step)


async def migrate(
    database: AsyncDatabase[dict[str, Any]],
    *,
    collections: Collections | None = None,
    report: Callable[[Step], None] = lambda _: None,
    dry_run: bool = False,
) -> list[Step]:
    """Returns the steps made or, in a dry run, those that would be.

    Raises MigrationRefused if an operator has to decide, or the database cannot be reached.
    """
    try:
        steps = plan(declared() if collections is None else collections, await survey(database))
        if not dry_run:
            await apply(database, steps, report=report)
        return steps
    except PyMongoError as error:
        raise MigrationRefused(f"MongoDB: {error}") from error


async def migrate_url(
    url: str, database: str, *, report: Callable[[Step], None] = lambda _: None, dry_run: bool = False
) -> list[Step]:
    """As `migrate`, over a connection of its own: without a bound on a step, as an index on much data takes long."""
    try:
        # Polled: a client that lives briefly should not be closed in the middle of opening a second monitor.
        async with AsyncMongoClient[dict[str, Any]](url, serverMonitoringMode="poll") as client:
            return await migrate(client[database], report=report, dry_run=dry_run)
    except (PyMongoError, ValueError) as error:
        raise MigrationRefused(f"MongoDB: {error}") from error
