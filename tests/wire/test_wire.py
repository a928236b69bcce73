"""The golden exchanges, both ways: the server answers what they say, and the device asks and holds what they say."""

import json
from typing import get_args

import pytest

from sync.changes import Code, Status
from tests.wire.play import EXCHANGES, Json, path_of, record, replay_device, replay_server, written
from tests.wire.scripts import SCRIPTS


def recorded(name: str) -> Json:
    loaded: Json = json.loads(path_of(name).read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_exchange_is_what_the_two_sides_say_today(name: str) -> None:
    """If it is meant to change: `python -m tests.wire`, and clients that were tested with the old one must still be served."""
    assert written(record(SCRIPTS[name])) == path_of(name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SCRIPTS)
async def test_the_server_answers_what_the_file_says(name: str) -> None:
    await replay_server(recorded(name))


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_device_asks_and_holds_what_the_file_says(name: str) -> None:
    replay_device(recorded(name))


def test_every_file_has_its_script() -> None:
    assert {path.stem for path in EXCHANGES.iterdir()} == set(SCRIPTS)


def test_every_status_and_code_is_met() -> None:
    results = [
        result
        for name in SCRIPTS
        for step in recorded(name)["steps"]
        if step["do"] in {"sync", "other"}
        for result in step["response"]["results"]
    ]
    assert {result["status"] for result in results} == set(get_args(Status))
    assert {result["code"] for result in results if "code" in result} == set(get_args(Code))


def test_every_story_tells_what_it_is_about() -> None:
    """The turn of each story, so that a script whose point got lost is found out."""
    stories = {name: recorded(name)["steps"] for name in SCRIPTS}
    syncs = {name: [step for step in steps if step["do"] == "sync"] for name, steps in stories.items()}
    responses = {name: [step["response"] for step in steps] for name, steps in syncs.items()}

    def statuses(name: str) -> list[str]:
        return [result["status"] for response in responses[name] for result in response["results"]]

    assert all(one["holds"]["wants"] == "nothing" for name in SCRIPTS for one in syncs[name][-1:])
    assert statuses("lost_response")[:2] == ["applied", "unchanged"]
    assert statuses("unchanged") == ["applied", "unchanged"]
    assert statuses("superseded") == ["superseded"]
    assert statuses("same_stamp") == ["superseded"]
    assert statuses("restamped") == ["restamped", "restamped", "applied"]
    assert statuses("restamped_clock_stands") == ["restamped", "restamped"]
    stands = [step["stamp"] for step in stories["restamped_clock_stands"] if step["do"] == "edit"]
    assert len(set(stands)) == 2
    assert "superseded" in responses["restamped_and_superseded"][1]["results"][0]
    assert statuses("rejected") == ["rejected"] * 4 + ["applied"]
    assert responses["echo"][1]["documents"][0]["fields"].keys() != syncs["echo"][1]["holds"]["answered"].keys()
    assert [response["more"] for response in responses["snapshot_pages"]][:2] == [True, True]
    assert responses["snapshot_pages"][0]["remaining"] == 2
    assert [list(one["fields"].values()) for one in responses["delta"][1]["documents"]] == [[{"rpe": 6}]]
    assert responses["reset"][1]["reset"]
    assert all("base" not in change for step in syncs["reset"][2:] for change in step["request"]["changes"])
    assert any(one.get("purged") for response in responses["purge_mark"] for one in response["documents"])
    assert responses["purge_mark"][-1]["results"][0]["code"] == "document_purged"
    assert [step["path"] for step in stories["digest_and_repair"] if step["do"] == "repair"] == [
        "/v1/sync/digest",
        "/v1/sync/fetch",
    ]
    assert len(stories["conflict"][-1]["conflicts"]) == 1
    assert list(responses["subset"][0]["digests"]) == ["workouts"]
    assert responses["subset"][1]["documents"][0]["collection"] == "goals"
    assert all("response_msgpack" in step for step in syncs["shapes_msgpack"])
