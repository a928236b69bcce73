import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api import migrate
from fitness_api.migrate import (
    EnableSharding,
    MakeCollection,
    MakeIndex,
    MigrationRefused,
    ShardCollection,
    Step,
    Survey,
    index_name,
    plan,
)
from tests.fitness_api import mongos
from tests.fitness_api.mongos import Mongos

RECORDS: Mapping[str, Mapping[str, Any]] = {
    "records": {"shard_key": [("user_id", 1)], "indexes": [([("user_id", 1), ("seq", -1)], {"name": "feed"})]},
    "emails": {"shard_key": [("_id", "hashed")], "indexes": []},
    "keys": {"shard_key": None, "indexes": [([("made_at", 1)], {"expireAfterSeconds": 60, "sparse": True})]},
}
NOTHING = Survey(database="fitness", sharded=False, indexes={}, shard_keys={})


def after(survey: Survey, steps: list[Step]) -> Survey:
    """What a survey would find once the steps were made."""
    indexes = {name: list(found) for name, found in survey.indexes.items()}
    shard_keys = dict(survey.shard_keys)
    for step in steps:
        match step:
            case MakeCollection(name):
                assert name not in indexes
                indexes[name] = [{"v": 2, "key": {"_id": 1}, "name": "_id_"}]
            case MakeIndex(name, keys, options):
                indexes[name].append({"v": 2, "key": dict(keys), **options, "name": index_name(keys, options)})
            case ShardCollection(name, key):
                assert any(list(index["key"].items())[: len(key)] == list(key) for index in indexes[name])
                shard_keys[name] = key
            case EnableSharding():
                pass
    return dataclasses.replace(survey, indexes=indexes, shard_keys=shard_keys)


def named(index: tuple[migrate.Keys, Mapping[str, Any]]) -> str:
    keys, options = index
    return index_name(keys, options)


fields = st.sampled_from(["user_id", "workout_id", "seq", "name"])
keys = st.lists(st.tuples(fields, st.sampled_from([1, -1])), min_size=1, max_size=3, unique_by=lambda key: key[0])
options = st.fixed_dictionaries(
    {}, optional={"unique": st.booleans(), "sparse": st.just(True), "expireAfterSeconds": st.integers(0, 9)}
)
collections = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.fixed_dictionaries(
        {
            "shard_key": st.none() | st.just([("user_id", 1)]) | st.just([("user_id", 1), ("workout_id", 1)]),
            "indexes": st.lists(st.tuples(keys, options), max_size=3, unique_by=named),
        }
    ),
)


@given(collections, collections, st.booleans())
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(
    before: dict[str, Any], wanted: dict[str, Any], sharded: bool
) -> None:
    start = dataclasses.replace(NOTHING, sharded=sharded)
    survey = after(start, plan(before, start))
    assert plan(before, survey) == []
    try:
        steps = plan(wanted, survey)
    except MigrationRefused:
        return
    assert plan(wanted, after(survey, steps)) == []


def test_on_one_node_nothing_is_sharded() -> None:
    assert [str(step) for step in plan(RECORDS, NOTHING)] == [
        "make collection emails",
        "make collection keys",
        "make index made_at_1 on keys (expireAfterSeconds 60, sparse True)",
        "make collection records",
        "make index feed on records",
    ]


def test_on_a_cluster_indexes_come_before_the_sharding_that_needs_them() -> None:
    assert [str(step) for step in plan(RECORDS, dataclasses.replace(NOTHING, sharded=True))] == [
        "enable sharding of fitness",
        "make collection emails",
        "make index shard_key on emails",
        "shard emails on {_id: hashed}",
        "make collection keys",
        "make index made_at_1 on keys (expireAfterSeconds 60, sparse True)",
        "make collection records",
        "make index feed on records",
        "shard records on {user_id: 1}",
    ]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"key": {"user_id": 1}, "name": "feed"}, "has the keys {user_id: 1}"),
        ({"key": {"seq": -1, "user_id": 1}, "name": "feed"}, "should have {user_id: 1, seq: -1}"),
        ({"key": {"user_id": 1, "seq": -1}, "name": "feed", "unique": True}, "has unique True"),
    ],
)
def test_another_index_of_that_name_is_refused(index: dict[str, Any], message: str) -> None:
    survey = dataclasses.replace(NOTHING, indexes={"records": [index]})
    with pytest.raises(MigrationRefused, match=message):
        plan(RECORDS, survey)


def test_an_index_that_leaves_documents_out_does_not_support_sharding() -> None:
    wanted = {"a": {"shard_key": [("user_id", 1)], "indexes": [([("user_id", 1)], {"name": "some", "sparse": True})]}}
    steps = plan(wanted, dataclasses.replace(NOTHING, sharded=True))
    assert MakeIndex("a", (("user_id", 1),), {"name": "shard_key"}) in steps


def test_a_collection_has_one_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    assert migrate.declared()
    monkeypatch.setattr(migrate, "ADAPTERS", (*migrate.ADAPTERS, migrate.ADAPTERS[0]))
    with pytest.raises(ValueError, match="declared twice"):
        migrate.declared()


def test_every_collection_of_accounts_is_sharded_by_its_account() -> None:
    """Unique indexes, transactions and zones all rest on it."""
    for name, wanted in migrate.declared().items():
        key = wanted["shard_key"]
        assert key is None or key[0] == ("user_id", 1) or list(key) == [("_id", "hashed")], name
        for keys, options in wanted["indexes"]:
            if key is not None and options.get("unique"):
                assert list(keys[: len(key)]) == list(key), f"a unique index of {name} has to begin with its shard key"


@pytest.fixture
async def fresh(mongo: AsyncMongoClient[dict[str, Any]]) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    name = f"migrate_{uuid.uuid4().hex[:16]}"
    yield mongo[name]
    await mongo.drop_database(name)


async def test_twice_is_as_once(fresh: AsyncDatabase[dict[str, Any]]) -> None:
    reported: list[Step] = []
    assert await migrate.migrate(fresh, dry_run=True) != []
    assert await fresh.list_collection_names() == []
    assert await migrate.migrate(fresh, report=reported.append) == reported
    assert sorted(await fresh.list_collection_names()) == sorted(migrate.declared())
    assert await migrate.migrate(fresh) == []


async def test_two_at_once_end_in_one_result(fresh: AsyncDatabase[dict[str, Any]]) -> None:
    await asyncio.gather(*(migrate.migrate(fresh) for _ in range(4)))
    assert await migrate.migrate(fresh) == []


async def test_a_server_that_refuses_a_step_is_quoted(fresh: AsyncDatabase[dict[str, Any]]) -> None:
    await fresh["keys"].insert_many([{"a": 1}, {"a": 1}])
    wanted = {"keys": {"shard_key": None, "indexes": [([("a", 1)], {"unique": True})]}}
    with pytest.raises(MigrationRefused, match=r"could not make index a_1 on keys .*duplicate key"):
        await migrate.migrate(fresh, collections=wanted)


async def migrated(cluster: Mongos, wanted: Mapping[str, Mapping[str, Any]]) -> list[Step]:
    async with mongos.running(cluster), AsyncMongoClient[dict[str, Any]](cluster.url) as client:
        return await migrate.migrate(client["fitness"], collections=wanted)


async def test_behind_a_mongos_collections_are_sharded_once() -> None:
    cluster = Mongos()
    await migrated(cluster, RECORDS)
    assert cluster.shard_keys == {"fitness.records": {"user_id": 1}, "fitness.emails": {"_id": "hashed"}}
    assert "enableSharding fitness" in cluster.commands
    cluster.commands.clear()
    assert await migrated(cluster, RECORDS) == []
    assert {command.split()[0] for command in cluster.commands} == {"listCollections", "listIndexes", "find"}


async def test_a_collection_that_holds_data_already_is_sharded_too() -> None:
    cluster = Mongos(
        indexes={"fitness.emails": {"_id_": {"v": 2, "key": {"_id": 1}, "name": "_id_"}}}, not_empty={"fitness.emails"}
    )
    await migrated(cluster, RECORDS)
    assert cluster.shard_keys["fitness.emails"] == {"_id": "hashed"}


async def test_all_that_is_declared_can_be_sharded() -> None:
    cluster = Mongos()
    await migrated(cluster, migrate.declared())
    assert cluster.shard_keys.keys() == {
        f"fitness.{name}" for name, wanted in migrate.declared().items() if wanted["shard_key"]
    }


async def test_another_shard_key_is_left_to_an_operator() -> None:
    cluster = Mongos()
    await migrated(cluster, RECORDS)
    cluster.shard_keys["fitness.records"] = {"seq": 1}
    with pytest.raises(MigrationRefused, match=r"records is sharded on \{seq: 1\} and should be on \{user_id: 1\}"):
        await migrated(cluster, RECORDS)


async def test_what_a_cluster_refuses_is_quoted() -> None:
    wanted = {"records": {"shard_key": [("user_id", 1)], "indexes": [([("email", 1)], {"unique": True})]}}
    with pytest.raises(MigrationRefused, match=r"could not shard records on \{user_id: 1\}.*not prefixed"):
        await migrated(Mongos(), wanted)
