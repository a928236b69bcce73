"""An export over HTTP and real stores: all of it, one at a time, for whom it is."""

import asyncio
import hashlib
import io
import json
import zipfile
from base64 import b64encode
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from secrets import token_bytes
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree as ET

import httpx
import msgspec
import pytest
from pymongo.asynchronous.database import AsyncDatabase
from starlette.types import Message

from fitness_api import app, resources
from fitness_api.errors import NotAuthenticated
from fitness_api.export.tables import TABLES
from fitness_api.leases_mongo import LEASES
from fitness_api.limits.policies import FLOWS
from fitness_api.routes_export import _Stream
from fitness_api.settings import Settings
from sync.errors import StoreUnavailable
from tests.fitness_api.client import CREDENTIALS, Json
from tests.fitness_api.erasing import CHUNK, STAMP, Person, ride
from tests.fitness_api.serving import serving

FAR = datetime(2100, 1, 1, tzinfo=UTC)
Files = dict[str, bytes]


async def exported(ada: Person) -> Files:
    answer = await ada.api.get("/v1/me/export", headers=ada.headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["cache-control"] == "no-store"
    assert "content-length" not in answer.headers
    assert answer.headers["content-disposition"].startswith('attachment; filename="fitness-export-2')
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def lines(files: Files, name: str) -> list[Json]:
    return [json.loads(line) for line in files[name].splitlines()]


async def test_everything_is_there_and_nobody_elses(
    api: httpx.AsyncClient, database: AsyncDatabase[dict[str, Any]]
) -> None:
    ada, bob = await Person(api, "ada@example.org").settle(), await Person(api, "bob@example.org").settle()
    for one in (ada, bob):
        await one.own_everything(database)
    files = await exported(ada)
    for table in TABLES:
        assert lines(files, table.entry), table.entry
    whole = "\n".join(files) + b"\n".join(files.values()).decode("utf-8", "replace")
    for name in ada.names:
        assert name in whole, name
    for name in bob.names:
        assert name not in whole, name


async def test_documents_are_as_the_api_gives_them_with_their_stamps(api: httpx.AsyncClient) -> None:
    ada = await Person(api, "ada@example.org").settle()
    document = str(uuid4())
    paths = {"title": "Leg day", "tags/pr": True, "tags/old": False, "sets/a/reps": 5, "notes": {"a": [1, 2.5, None]}}
    stamps = [STAMP, f"{int(STAMP, 16) + 4096:016x}"]
    sent = [
        {"id": str(uuid4()), "collection": "workouts", "doc": document, "stamp": stamps[0], "set": paths},
        {"id": str(uuid4()), "collection": "workouts", "doc": document, "stamp": stamps[1], "set": {"rpe": 7}},
    ]
    body = {"device_id": ada.device_id, "changes": sent, "cursor": ""}
    pulled = (await api.post("/v1/sync", json=body, headers=ada.headers)).json()
    assert [result["status"] for result in pulled["results"]] == ["applied", "applied"]
    files = await exported(ada)
    found = {one["id"]: one for one in lines(files, "documents/workouts.ndjson")}
    assert found[document]["fields"] == {stamps[0]: paths, stamps[1]: {"rpe": 7}}
    assert found[document]["value"] == {
        "title": "Leg day", "tags": ["pr"], "sets": [{"id": "a", "reps": 5}], "notes": {"a": [1, 2.5, None]}, "rpe": 7,
    }  # fmt: skip
    other = next(one for one in pulled["documents"] if one["id"] != document)
    assert {name: found[other["id"]][name] for name in ("collection", "seq", "fields")} == {
        name: other[name] for name in ("collection", "seq", "fields")
    }
    assert files["documents/goals.ndjson"] == b""


async def test_what_was_refused_and_what_lost_is_there(api: httpx.AsyncClient) -> None:
    ada = await Person(api, "ada@example.org").settle()
    document = str(uuid4())
    for number, title in enumerate(("mine", "theirs")):
        stamp = f"{int(STAMP, 16) + 4096 + number:016x}"  # of another replica
        change = {
            "id": str(uuid4()),
            "collection": "workouts",
            "doc": document,
            "stamp": stamp,
            "base": 0,
            "set": {"title": title},
        }
        await api.post("/v1/sync", json={"device_id": ada.device_id, "changes": [change]}, headers=ada.headers)
    files = await exported(ada)
    assert (
        lines(files, "sync/conflicts.ndjson")
        == (await api.get("/v1/sync/conflicts", headers=ada.headers)).json()["conflicts"]
    )
    assert (
        lines(files, "sync/rejected.ndjson")
        == (await api.get("/v1/sync/rejected", headers=ada.headers)).json()["rejected"]
    )
    assert len(lines(files, "sync/conflicts.ndjson")) == len(lines(files, "sync/rejected.ndjson")) == 1
    assert json.loads(files["sync/state.json"])["devices"].keys() == {ada.device_id}


async def test_tracks_are_lines_and_gpx_and_imports_are_their_files(api: httpx.AsyncClient) -> None:
    ada = await Person(api, "ada@example.org").settle()
    workout, chunk = str(uuid4()), str(uuid4())
    where = {**CHUNK, "values": [[52.5, 13.25], None]}
    for stream, body in (("heart_rate", CHUNK), ("position", where)):
        path = f"/v1/workouts/{workout}/tracks/{stream}/{chunk}"
        assert (await api.put(path, json=body, headers=ada.headers)).status_code == 201
    files = await exported(ada)
    assert lines(files, f"tracks/{workout}.ndjson") == [
        {"stream": stream, "chunk": chunk, **body} for stream, body in (("heart_rate", CHUNK), ("position", where))
    ]
    root = ET.fromstring(files[f"tracks/{workout}.gpx"])
    assert [point.attrib for point in root.iter() if point.tag.endswith("trkpt")] == [{"lat": "52.5", "lon": "13.25"}]
    # A workout that was indoors has no GPX.
    # A ride that was imported as FIT is there as that file.
    kinds = sorted(name.rpartition(".")[2] for name in files if name.startswith("tracks/"))
    assert kinds == ["fit", "fit", "gpx", "ndjson", "ndjson", "ndjson"]
    assert {f"tracks/{workout}.{kind}" for kind in ("ndjson", "gpx", "fit")} <= files.keys()
    (record,) = lines(files, "imports/imports.ndjson")
    assert files[f"imports/{record['import_id']}.fit"] == ride()
    assert record["sha256"] == hashlib.sha256(ride()).hexdigest()


async def test_the_manifest_has_the_hash_of_every_other_entry(api: httpx.AsyncClient) -> None:
    ada = await Person(api, "ada@example.org").settle()
    files = await exported(ada)
    manifest = json.loads(files.pop("manifest.json"))
    assert manifest["entries"] == [
        {"name": name, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    ]
    assert (manifest["user_id"], manifest["format"], manifest["version"]) == (ada.user_id, "fitness-export", 1)
    readme = files["README.txt"].decode()
    assert next(iter(files)) == "README.txt"
    for withheld in manifest["withheld"]:
        assert withheld["why"] in readme


async def test_no_secret_is_in_it(api: httpx.AsyncClient, database: AsyncDatabase[dict[str, Any]]) -> None:
    ada = await Person(api, "ada@example.org").settle()
    account = await database["accounts"].find_one({"_id": ada.user_id})
    assert account is not None
    whole = b"\n".join((await exported(ada)).values()).decode("utf-8", "replace")
    for secret in (account["password_hash"], CREDENTIALS["password"], *ada.pair.values()):
        assert str(secret) not in whole or secret in ("Bearer", ada.pair["scope"], ada.pair["expires_in"])


async def test_an_account_without_anything_is_exported_too(api: httpx.AsyncClient) -> None:
    ada = Person(api, "ada@example.org")
    ada.pair = (await api.post("/v1/auth/register", json=CREDENTIALS)).json()
    files = await exported(ada)
    assert json.loads(files["account/profile.json"])["email"] == "ada@example.org"
    assert "documents/workouts.ndjson" not in files


# ------------------------------------------------------------------------------------------------------------ for whom


async def test_it_needs_a_recent_login_and_the_scope(api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await Person(api, "ada@example.org").settle()
    assert (await api.get("/v1/me/export")).status_code == 401
    narrow = await api.post(
        "/v1/oauth/token",
        data={"grant_type": "refresh_token", "refresh_token": ada.pair["refresh_token"], "scope": "sync"},
    )
    token = {"Authorization": f"Bearer {narrow.json()['access_token']}"}
    assert (await api.get("/v1/me/export", headers=token)).json()["code"] == "insufficient_scope"
    monkeypatch.setattr("fitness_api.identity.sessions.RECENT_LOGIN_S", 0)
    assert (await api.get("/v1/me/export", headers=ada.headers)).json()["code"] == "reauthentication_required"


async def test_no_other_app_takes_all_away_or_adds_a_way_in_just_after_its_user_logged_in(
    api: httpx.AsyncClient, settings: Settings
) -> None:
    ada = await Person(api, "ada@example.org").settle()
    async with resources.open_resources(settings) as opened:
        pair = await opened["sessions"].begin(
            ada.user_id, client_id=str(uuid4()), scopes=("account",), methods=("pwd",)
        )
    token = {"Authorization": f"Bearer {pair.access_token}"}
    assert (await api.get("/v1/me", headers=token)).status_code == 200
    recent = [operation for operation in app.OPERATIONS if operation.recent_login]
    assert len(recent) > 5
    for operation in recent:
        path = operation.path.replace("{id}", str(uuid4()))
        answer = await api.request(operation.method, path, headers=token)
        assert (answer.status_code, answer.json()["code"]) == (403, "first_party_only"), path
    assert (await api.get("/v1/me", headers=ada.headers)).status_code == 200


async def test_an_account_has_one_at_a_time_and_others_do_not_wait_for_it(
    api: httpx.AsyncClient, database: AsyncDatabase[dict[str, Any]]
) -> None:
    ada, bob = await Person(api, "ada@example.org").settle(), await Person(api, "bob@example.org").settle()
    answers = await asyncio.gather(*(api.get("/v1/me/export", headers=ada.headers) for _ in range(5)), exported(bob))
    codes = [answer.status_code for answer in answers[:-1] if isinstance(answer, httpx.Response)]
    assert 200 in codes
    assert set(codes) <= {200, 409}
    await database[LEASES].insert_one({"_id": f"export/{ada.user_id}", "holder": "x", "expires_at": FAR})
    refused = await api.get("/v1/me/export", headers=ada.headers)
    assert (refused.status_code, refused.json()["code"]) == (409, "export_in_progress")
    await database[LEASES].delete_many({})
    await exported(ada)
    assert await database[LEASES].count_documents({}) == 0


async def test_an_account_has_a_few_a_day(settings: Settings) -> None:
    key = b64encode(token_bytes(32)).decode()  # so that its counters on the shared server are its own
    async with serving(app.build(msgspec.structs.replace(settings, unlimited_networks="", master_key=key))) as api:
        ada = Person(api, "ada@example.org")
        ada.pair = (await api.post("/v1/auth/register", json=CREDENTIALS)).json()
        [policy] = FLOWS["export"]
        for _ in range(policy.quota):
            await api.head("/v1/me/export", headers=ada.headers)
            await exported(ada)
        refused = await api.get("/v1/me/export", headers=ada.headers)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")


async def test_head_makes_none(api: httpx.AsyncClient) -> None:
    ada = await Person(api, "ada@example.org").settle()
    answer = await api.head("/v1/me/export", headers=ada.headers)
    assert (answer.status_code, answer.content) == (200, b"")


async def test_a_client_that_leaves_ends_it_and_is_sent_no_end() -> None:
    """Else everything would be read for nobody, and its account's next export would wait for that."""
    leaves, ended = asyncio.Event(), asyncio.Event()
    sent: list[Message] = []

    async def pieces() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            await asyncio.sleep(0)  # as who tells the database does
            ended.set()

    async def receive() -> Message:
        await leaves.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) == 5:
            leaves.set()
        await asyncio.sleep(0)

    await _Stream(b"x", pieces(), headers={}, media_type="application/zip")({"type": "http"}, receive, send)
    assert ended.is_set()
    assert all(message.get("more_body", True) for message in sent)
    assert len(sent) < 10


@pytest.mark.parametrize("error", [NotAuthenticated("The session has ended."), StoreUnavailable("MongoDB: gone")])
async def test_what_breaks_it_off_sends_no_end_and_is_one_line_in_the_log(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[Message] = []

    async def pieces() -> AsyncGenerator[bytes]:
        yield b"x"
        raise error

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    await _Stream(b"x", pieces(), headers={}, media_type="application/zip")({"type": "http"}, receive, send)
    assert [message.get("more_body") for message in sent] == [None, True, True]
    assert [record.getMessage() for record in caplog.records] == [f"an export was cut off: {error}"]
