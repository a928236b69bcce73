import os
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api import cli
from sync.store_mongo import MongoStore

CHECKOUT = Path(cli.__file__).parents[1]
KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


def fitness_api(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fitness_api", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=CHECKOUT,
        env=environment(settings),
    )


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("FITNESS_")}
    return bare | {f"FITNESS_{name.upper()}": value for name, value in settings.items()}


def test_help_lists_every_command() -> None:
    answer = fitness_api("--help")
    assert answer.returncode == 0
    for command in ("up", "serve", "migrate", "epoch", "erase", "demo", "simulate", "FITNESS_MONGO_URL"):
        assert command in answer.stdout


@pytest.mark.parametrize("command", ["up", "serve", "migrate", "epoch", "erase", "demo", "simulate"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: fitness-api {command}" in capsys.readouterr().out


def test_the_version_is_the_project_s(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        known = version("fitness-backend")
    except PackageNotFoundError:
        known = "(not installed)"
    else:
        assert known == tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"fitness-api {known}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["up", "--port", "70000"],
        ["up", "--port", "http"],
        ["simulate", "--devices", "0"],
        ["simulate", "--offline", "2"],
        ["simulate", "--faults", "gremlins"],
    ],
)
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == cli.USAGE_ERROR
    assert "usage: fitness-api" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "migrate", "erase --resume"])
def test_a_bad_setting_is_one_line(command: str) -> None:
    answer = fitness_api(*command.split(), mongo_url="mongodb://127.0.0.1/", master_key=KEY)
    assert answer.returncode == cli.USAGE_ERROR
    assert answer.stderr == "fitness-api: Missing required field FITNESS_REDIS_URL\n"
    assert answer.stdout == ""


def test_migrate_makes_what_is_missing_and_says_so(mongo_url: str, redis_url: str) -> None:
    settings = {
        "mongo_url": mongo_url,
        "redis_url": redis_url,
        "master_key": KEY,
        "mongo_database": f"cli_{uuid.uuid4().hex[:16]}",
    }
    would = fitness_api("migrate", "--dry-run", **settings)
    done = fitness_api("migrate", **settings)
    again = fitness_api("migrate", **settings)
    assert [answer.returncode for answer in (would, done, again)] == [0, 0, 0]
    assert "make collection accounts" in done.stdout
    assert would.stdout == "".join(f"would {line}\n" for line in done.stdout.splitlines())
    assert again.stdout == "nothing to do\n"


def test_erase_erases_what_is_named_and_resumes_what_was_begun(mongo_url: str, redis_url: str) -> None:
    settings = {
        "mongo_url": mongo_url,
        "redis_url": redis_url,
        "master_key": KEY,
        "mongo_database": f"cli_{uuid.uuid4().hex[:16]}",
    }
    user = str(uuid.uuid4())
    assert fitness_api("migrate", **settings).returncode == 0
    erased = fitness_api("erase", user, **settings)
    assert (erased.returncode, erased.stdout, erased.stderr) == (0, f"erased {user}\n", "")
    with MongoClient[dict[str, Any]](mongo_url) as client:
        accounts = client[settings["mongo_database"]]["accounts"]
        assert accounts.find_one({"_id": user}, {"stage": 1}) == {"_id": user, "stage": "swept"}
        accounts.update_one({"_id": user, "user_id": user}, {"$set": {"stage": "begun"}})
        outputs = [fitness_api("erase", "--resume", **settings).stdout for _ in range(2)]
        assert outputs == [f"erased {user}\n", ""]
        emails = client[settings["mongo_database"]]["emails"]
        another = str(uuid.uuid4())
        emails.insert_one({"_id": "ada@example.org", "user_id": another})
        fitness_api("erase", another, **settings)
        found = fitness_api("erase", "--find", " Ada@Example.ORG", **settings)
        assert (found.returncode, found.stdout[:45]) == (0, f"{another} erased 2")
        assert fitness_api("erase", "--find", "nobody", **settings).returncode == 1
        client.drop_database(settings["mongo_database"])


@pytest.mark.parametrize("arguments", [["erase"], ["erase", "ada@example.org"]])
def test_erase_needs_an_account_or_the_word(arguments: list[str]) -> None:
    answer = fitness_api(*arguments, mongo_url="mongodb://127.0.0.1:9", redis_url="redis://127.0.0.1:9", master_key=KEY)
    assert answer.returncode == cli.USAGE_ERROR
    assert answer.stdout == ""


def test_a_database_that_does_not_answer_is_one_line() -> None:
    answer = fitness_api(
        "migrate",
        mongo_url="mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=50",
        redis_url="redis://127.0.0.1:9",
        master_key=KEY,
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith("fitness-api: MongoDB: 127.0.0.1:9: ")
    assert "Traceback" not in answer.stderr


async def test_bumping_the_epoch_makes_cursors_foreign(
    mongo_url: str, redis_url: str, database: AsyncDatabase[dict[str, Any]]
) -> None:
    store, users = MongoStore(database), [str(uuid.uuid4()) for _ in range(2)]
    for user_id in users:
        await store.register_device(user_id, str(uuid.uuid4()))

    async def epochs() -> list[int]:
        heads = [await MongoStore(database).head(user_id) for user_id in users]
        return [head.epoch for head in heads if head is not None]

    def bump(*arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {"mongo_url": mongo_url, "redis_url": redis_url, "mongo_database": database.name, "master_key": KEY}
        return fitness_api("epoch", "bump", *arguments, **settings)

    before = await epochs()
    assert bump("--account", users[0]).returncode == 0
    after_one = await epochs()
    assert (after_one[0] != before[0], after_one[1]) == (True, before[1])
    assert bump().returncode == 0
    assert not {*await epochs()} & {*before, *after_one}
    unknown = bump("--account", str(uuid.uuid4()))
    assert (unknown.returncode, "ever synced" in unknown.stderr) == (1, True)
