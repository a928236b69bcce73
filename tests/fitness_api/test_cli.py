import asyncio
import os
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api import app, cli
from fitness_api.settings import Settings
from sync.store_mongo import MongoStore
from tests.fitness_api.client import CREDENTIALS, bearer, registered
from tests.fitness_api.serving import serving

CHECKOUT = Path(cli.__file__).parents[1]
COMMANDS = ("up", "serve", "migrate", "epoch", "erase", "keys", "admin", "demo", "simulate")
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
    for command in (*COMMANDS, "FITNESS_MONGO_URL"):
        assert command in answer.stdout


@pytest.mark.parametrize("command", COMMANDS)
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
        ["keys"],
        ["keys", "drop"],
        ["admin"],
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


async def test_keys_rotate_and_nobody_is_logged_out(
    settings: Settings, database: AsyncDatabase[dict[str, Any]]
) -> None:
    shared = of(settings)
    async with serving(app.build(settings)) as api:
        pair = await registered(api)
        early = await asyncio.to_thread(fitness_api, "keys", "rotate", **shared)
        assert early.returncode == 1
        assert "rotate again from 20" in early.stderr
        long_ago = datetime(2020, 1, 1, tzinfo=UTC)
        await database["signing_keys"].update_one({"state": "next"}, {"$set": {"state_since": long_ago}})
        before = await asyncio.to_thread(fitness_api, "keys", "list", **shared)
        rotated = await asyncio.to_thread(fitness_api, "keys", "rotate", **shared)
        assert (before.returncode, rotated.returncode, rotated.stderr) == (0, 0, "")
        assert sorted(line.split()[1] for line in before.stdout.splitlines()) == ["current", "next"]
        assert sorted(line.split()[1] for line in rotated.stdout.splitlines()) == ["current", "next", "retired"]
        assert (await api.get("/v1/me", headers=bearer(pair))).status_code == 200
        async with serving(app.build(settings)) as other:
            assert (await other.get("/v1/me", headers=bearer(pair))).status_code == 200
            newer = await other.post("/v1/auth/login", json=CREDENTIALS)
        # Whoever loaded the keys before knows the one that signs now.
        assert (await api.get("/v1/me", headers=bearer(newer.json()))).status_code == 200


async def test_a_key_that_leaked_makes_apps_refresh(settings: Settings) -> None:
    async with serving(app.build(settings)) as api:
        pair = await registered(api)
    rotated = await asyncio.to_thread(fitness_api, "keys", "rotate", "--compromised", **of(settings))
    assert sorted(line.split()[1] for line in rotated.stdout.splitlines()) == ["current", "next"]
    async with serving(app.build(settings)) as api:
        assert (await api.get("/v1/me", headers=bearer(pair))).status_code == 401
        form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
        newer = await api.post("/v1/oauth/token", data=form)
        assert (await api.get("/v1/me", headers=bearer(newer.json()))).status_code == 200


async def test_admin_grants_and_withdraws(settings: Settings, api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    granted = await asyncio.to_thread(fitness_api, "admin", "ADA@example.org", **of(settings))
    assert (granted.returncode, granted.stdout.split()[:2]) == (0, ["granted", "to"])
    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    admin = (await api.post("/v1/oauth/token", data=form)).json()
    assert set(admin["scope"].split()) - set(pair["scope"].split()) == {"analytics:read", "admin"}
    assert (await api.get("/v1/me", headers=bearer(admin))).status_code == 200
    narrow = {"grant_type": "refresh_token", "refresh_token": admin["refresh_token"], "scope": "admin account"}
    narrow_pair = (await api.post("/v1/oauth/token", data=narrow)).json()
    assert narrow_pair["scope"] == "account admin"
    assert (
        await asyncio.to_thread(fitness_api, "admin", "ada@example.org", "--revoke", **of(settings))
    ).returncode == 0
    async with asyncio.timeout(20):
        while (await api.get("/v1/me", headers=bearer(admin))).status_code == 200:
            await asyncio.sleep(0.1)
    form["refresh_token"] = narrow_pair["refresh_token"]
    user = (await api.post("/v1/oauth/token", data=form)).json()
    assert user["scope"] == pair["scope"]
    assert (await api.get("/v1/me", headers=bearer(user))).status_code == 200


@pytest.mark.parametrize("email", ["nobody@example.org", "nobody"])
async def test_admin_needs_an_account(settings: Settings, email: str) -> None:
    answer = await asyncio.to_thread(fitness_api, "admin", email, **of(settings))
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.count("\n") == 1


def of(settings: Settings) -> dict[str, str]:
    names = ("mongo_url", "redis_url", "master_key", "mongo_database")
    return {name: getattr(settings, name) for name in names}


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
