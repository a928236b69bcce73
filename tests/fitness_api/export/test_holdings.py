"""Nothing that is added to the database is left out by being forgotten."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any

import httpx
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api import migrate
from fitness_api.export.holdings import HOLDINGS
from fitness_api.export.tables import LEFT_OUT, TABLES
from tests.fitness_api.erasing import Person, add_the_rest


def test_every_collection_is_exported_or_x() -> None:
    exported = [collection for holding in HOLDINGS.values() for collection in holding.collections]
    assert len(exported) == len(set(exported))
    assert not set(exported) & LEFT_OUT.keys()
    assert {*exported, *LEFT_OUT} == set(migrate.declared()), (
        "A collection that holds anything of a person joins TABLES (fitness_api/export/tables.py) with the fields that are shown and "
        "those that are withheld, or HOLDINGS; one that does not, LEFT_OUT with the reason."
    )


def test_every_table_is_a_file_of_its_own() -> None:
    assert len({table.entry for table in TABLES}) == len(TABLES)


async def test_every_field_that_is_stored_is_shown_or_withheld(
    api: httpx.AsyncClient, database: AsyncDatabase[dict[str, Any]]
) -> None:
    ada = await Person(api, "ada@example.org").settle()
    await add_the_rest(database, ada.user_id)
    for table in TABLES:
        listed = {field.partition(" as ")[0] for field in table.shown}
        assert not listed & table.withheld.keys()
        rows = [row async for row in database[table.collection].find({"user_id": ada.user_id})]
        assert rows, f"Let add_the_rest store something in {table.collection}."
        stored = {path for row in rows for path in paths(row, listed | table.withheld.keys())} - {"user_id"}
        assert stored <= listed | table.withheld.keys(), table.collection


def paths(value: Any, known: AbstractSet[str], prefix: str = "") -> Iterator[str]:
    """Give the paths of what is stored, no deeper than into what is shown or withheld as a whole."""
    if isinstance(value, dict) and prefix not in known:
        for name, inner in value.items():
            yield from paths(inner, known, f"{prefix}.{name}" if prefix else name)
    elif isinstance(value, list) and prefix not in known and value:
        for inner in value:
            yield from paths(inner, known, prefix)
    elif value is not None and value != []:
        yield prefix


async def test_no_table_is_searched_through_for_one_account(database: AsyncDatabase[dict[str, Any]]) -> None:
    for table in TABLES:
        plan = await database[table.collection].find({"user_id": "ada"}).explain()
        text = repr(plan["queryPlanner"]["winningPlan"])
        assert "IXSCAN" in text, table.collection
        assert "COLLSCAN" not in text
        assert '["ada", "ada"]' in text, (table.collection, text)
