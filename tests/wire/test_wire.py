"""The golden exchanges, both ways: the server answers what they say, and the device asks and holds what they say."""

import json
import uuid
from typing import get_args

import pytest

from sync.changes import Code, Status
from sync.conversation import Answer, Ask, Conversation
from sync.replica import Replica
from tests.wire.play import DEVICE, EXCHANGES, NOW_MS, Json, path_of, record, replay_device, replay_server, written
from tests.wire.scripts import RIDE, SCRIPTS


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
    assert [response["reset"] for response in responses["reset"]] == [False] * 3 + [True] + [False] * 3
    assert "base" in syncs["reset"][2]["request"]["changes"][0]
    sent_again = [change for step in syncs["reset"][4:] for change in step["request"]["changes"]]
    assert [change["set"] for change in sent_again] == [
        {"title": "after the backup"},
        {"title": "after the backup, too"},
    ]
    assert all("base" not in change for change in sent_again)
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


REFUSALS: Json = json.loads((EXCHANGES.parent / "refusals.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("dice", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("story", REFUSALS, ids=lambda story: story["about"])
def test_the_device_does_about_a_refusal_what_the_file_says(story: Json, dice: float) -> None:
    at_ms = 1_000_000
    conversation = Conversation(Replica(DEVICE, 1), {})
    for number in range(story["queue"]):
        change_id = str(uuid.UUID(int=number))
        conversation.replica.edit("workouts", RIDE, {"rpe": number}, change_id=change_id, now_ms=NOW_MS)
    for turn in story["turns"]:
        at_ms = max(at_ms, conversation.next_attempt_ms)
        asked = conversation.next(at_ms)
        assert isinstance(asked, Ask)
        check_asked(asked, turn)
        given = None
        if turn["status"] is not None:
            given = Answer(turn["status"], turn.get("body"), turn.get("retry_after_s", 0))
        conversation.take(asked, given, steady_ms=at_ms, wall_ms=NOW_MS, dice=dice)
    then, replica = story["then"], conversation.replica
    assert len(replica.unsent) == then.get("queue", len(replica.unsent))
    assert len(replica.aside) == then.get("aside", 0)
    now = conversation.next(at_ms)
    if "asks" in then:
        assert isinstance(now, Ask)
        check_asked(now, then)
    elif "waits_ms" in then:
        least_ms, most_ms = then["waits_ms"]
        assert least_ms <= conversation.next_attempt_ms - at_ms <= most_ms
    assert conversation.stopped == then.get("stopped")


def check_asked(asked: Ask, expected: Json) -> None:
    assert asked.kind == expected["asks"]
    if asked.kind == "sync":
        assert len(asked.body["changes"]) == expected["changes"]
        assert asked.body["device_id"] == expected.get("device_id", DEVICE)
