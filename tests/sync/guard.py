"""Holds every command to `sync_records` to one account, named by equality, and to an index."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from sync.store_mongo import RECORDS

# What the feed and single records are read by; a plan with any other index, or none, is a defect.
INDEXES = {"feed", "log", "started", "_id_"}


class OneAccountGuard(CommandListener):
    """Collects what was wrong instead of raising: a listener's errors are only logged by the driver."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.commands: list[Mapping[str, Any]] = []
        self._cursors: set[int] = set()
        self._transactions: dict[tuple[bytes, int], str] = {}

    def started(self, event: CommandStartedEvent) -> None:
        command = event.command
        if event.command_name == "getMore" and command["collection"] == RECORDS:
            self._check_cursors([command["getMore"]])
        if command.get(event.command_name) != RECORDS:
            return
        self.commands.append(dict(command))
        for filter_ in self._filters(event.command_name, command):
            user_id = filter_.get("user_id")
            if not isinstance(user_id, str):
                self.problems.append(f"{event.command_name} does not name one account: {filter_}")
                continue
            self._note_transaction(command, user_id)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """A cursor that a find or aggregate of one account opened may be read on."""
        if event.command_name in {"find", "aggregate"} and (opened := event.reply["cursor"]["id"]):
            self._cursors.add(int(opened))

    def _check_cursors(self, cursors: Iterable[int]) -> None:
        self.problems += [f"Nobody opened the cursor {one}." for one in cursors if int(one) not in self._cursors]

    def failed(self, event: CommandFailedEvent) -> None:
        pass

    def _filters(self, name: str, command: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        match name:
            case "find":
                yield command.get("filter", {})
            case "findAndModify":
                yield command.get("query", {})
            case "count" | "distinct":
                yield command.get("query", {})
            case "aggregate":
                yield command["pipeline"][0].get("$match", {})
            case "update":
                yield from (statement["q"] for statement in command["updates"])
            case "delete":
                yield from (statement["q"] for statement in command["deletes"])
            case "insert":
                yield from command["documents"]
            case "killCursors":
                self._check_cursors(command["cursors"])
            case "explain" | "create" | "createIndexes" | "drop":
                return
            case _:
                self.problems.append(f"The guard does not know the command {name}.")

    def _note_transaction(self, command: Mapping[str, Any], user_id: str) -> None:
        if "txnNumber" not in command or command.get("autocommit") is not False:
            return
        transaction = (bytes(command["lsid"]["id"]), int(command["txnNumber"]))
        if self._transactions.setdefault(transaction, user_id) != user_id:
            self.problems.append(f"A transaction touches two accounts: {user_id} and {self._transactions[transaction]}")

    @property
    def planned(self) -> list[Mapping[str, Any]]:
        """What an index has to be chosen for."""
        return [command for command in self.commands if {"find", "aggregate", "update", "delete"} & command.keys()]

    @property
    def reads(self) -> list[Mapping[str, Any]]:
        return [command for command in self.commands if "find" in command or "aggregate" in command]

    def check(self) -> None:
        assert self.problems == []


async def plan_problems(database: AsyncDatabase[dict[str, Any]], read: Mapping[str, Any]) -> list[str]:
    """Explain a recorded command; say what is wrong with the plan that the server would choose for it."""
    kept = {"find", "filter", "sort", "projection", "hint", "aggregate", "pipeline", "cursor"}
    kept |= {"update", "updates", "delete", "deletes"}
    plain = {name: value for name, value in read.items() if name in kept}
    # The server explains one statement of a command at a time.
    parts = [{**plain, "updates": [one]} for one in plain["updates"]] if "updates" in plain else [plain]
    plans = [await database.command({"explain": part, "verbosity": "queryPlanner"}) for part in parts]
    stages = list(_stages(plans))
    problems = [f"{stage['stage']} in {plain}" for stage in stages if stage["stage"] in {"COLLSCAN", "SORT"}]
    used = {stage["indexName"] for stage in stages if "indexName" in stage} | {
        "_id_" for stage in stages if stage["stage"] == "IDHACK"
    }
    if not used or not used <= INDEXES:
        problems.append(f"The indexes {used or 'none'} for {plain}")
    return problems


def _stages(plan: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(plan, Mapping):
        if isinstance(plan.get("stage"), str):
            yield plan
        for name, part in plan.items():
            if name != "rejectedPlans":
                yield from _stages(part)
    elif isinstance(plan, list):
        for part in plan:
            yield from _stages(part)


@pytest.fixture
def guard() -> Iterator[OneAccountGuard]:
    """Give it to a client as an event listener; at the end of the test it fails if a command was wrong."""
    listener = OneAccountGuard()
    yield listener
    listener.check()
