"""What a device does about every kind of answer, with a clock and dice of the test's own."""

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.conversation import (
    BASE_MS,
    DAY_MS,
    MOST_MS,
    POLL_EVERY_MS,
    REFUSED_FOR_MS,
    Answer,
    Ask,
    Conversation,
    Wait,
)
from sync.document import Key
from sync.replica import Replica
from sync.store_memory import MemoryStore
from tests.sync.answers import IDS, Json, answer, answer_repair, device, edit, expected, registers
from tests.sync.model import NOW_MS

REGISTRATION = {"installation_id": IDS[0], "platform": "watchos", "app_version": "1.0"}


class Talk:
    """A conversation with a server, on a steady clock that the test moves."""

    def __init__(self, store: MemoryStore, replica: Replica) -> None:
        self.store = store
        self.conversation = Conversation(replica, REGISTRATION)
        self.at_ms = 5_000_000
        self.asked: list[Ask] = []

    @property
    def replica(self) -> Replica:
        return self.conversation.replica

    def ask(self) -> Ask:
        asked = self.conversation.next(self.at_ms)
        assert isinstance(asked, Ask), asked
        self.asked.append(asked)
        return asked

    def wait(self) -> Wait:
        waiting = self.conversation.next(self.at_ms)
        assert isinstance(waiting, Wait), waiting
        return waiting

    def take(self, ask: Ask, status: int, body: Any = None, *, retry_after_s: float = 0, dice: float = 0.5) -> None:
        given = Answer(status, body, retry_after_s)
        self.conversation.take(ask, given, steady_ms=self.at_ms, wall_ms=NOW_MS, dice=dice)

    def lose(self, ask: Ask, *, dice: float = 0.5) -> None:
        self.conversation.take(ask, None, steady_ms=self.at_ms, wall_ms=NOW_MS, dice=dice)

    async def served(self, ask: Ask, **changed: Any) -> Json:
        request = dict(ask.body)
        if ask.kind == "sync":
            return {**await answer(self.store, request), **changed}
        return await answer_repair(self.store, self.replica.repair_request())

    async def until_it_waits(self) -> Wait:
        for _ in range(200):
            match self.conversation.next(self.at_ms):
                case Ask() as ask:
                    self.asked.append(ask)
                    self.take(ask, 200, await self.served(ask))
                case Wait() as waiting:
                    return waiting
        raise AssertionError("It never rests.")


@pytest.fixture
async def talk() -> Talk:
    store = MemoryStore()
    return Talk(store, await device(store))


def problem(code: str, **more: Any) -> Json:
    return {"code": code, "detail": "…", **more}


async def test_it_syncs_at_the_start_and_rests_until_an_edit_a_hint_or_the_next_poll(talk: Talk) -> None:
    waiting = await talk.until_it_waits()
    assert waiting == Wait(talk.at_ms + POLL_EVERY_MS)
    assert [ask.kind for ask in talk.asked] == ["sync"]
    edit(talk.replica, IDS[0], {"title": "x"})
    await talk.until_it_waits()
    talk.conversation.hint()
    await talk.until_it_waits()
    assert len(talk.asked) == 3
    talk.at_ms += POLL_EVERY_MS
    await talk.until_it_waits()
    assert len(talk.asked) == 4


async def test_a_hint_that_comes_while_a_request_is_under_way_is_not_answered_by_it(talk: Talk) -> None:
    ask = talk.ask()
    body = await talk.served(ask)
    talk.conversation.hint()
    talk.take(ask, 200, body)
    assert talk.ask().kind == "sync"


async def test_the_server_says_when_to_look_for_news_again_and_uploads_do_not_wait_for_it(talk: Talk) -> None:
    ask = talk.ask()
    body = await talk.served(ask)
    talk.take(ask, 200, {**body, "limits": {**body["limits"], "next_sync_after_s": 3600}})
    assert talk.wait().until_ms == talk.at_ms + 3_600_000
    talk.conversation.hint()
    assert talk.wait().until_ms == talk.at_ms + 3_600_000
    edit(talk.replica, IDS[0], {"title": "x"})
    assert talk.ask().body["changes"]


async def test_a_user_who_looks_does_not_wait_for_a_busy_server(talk: Talk) -> None:
    ask = talk.ask()
    body = await talk.served(ask)
    talk.take(ask, 200, {**body, "limits": {**body["limits"], "next_sync_after_s": 3600}})
    talk.conversation.look()
    assert talk.ask().kind == "sync"


async def test_retries_are_by_level_and_back_off_with_full_jitter(talk: Talk) -> None:
    edit(talk.replica, IDS[0], {"title": "x"})
    waits = []
    for _ in range(12):
        talk.lose(talk.ask(), dice=0.5)
        waits.append(talk.wait().until_ms - talk.at_ms)
        talk.at_ms = talk.wait().until_ms
    assert waits[:4] == [BASE_MS // 2, BASE_MS, 2 * BASE_MS, 4 * BASE_MS]
    assert waits[-1] == MOST_MS // 2
    talk.take(talk.ask(), 503, dice=0.0)
    assert talk.ask().kind == "sync"  # the dice may say at once
    await talk.until_it_waits()
    talk.conversation.hint()
    talk.lose(talk.ask(), dice=0.999)
    assert talk.wait().until_ms - talk.at_ms < BASE_MS


@given(
    st.integers(0, 40), st.floats(0, 1, exclude_max=True), st.integers(0, 100), st.sampled_from([429, 500, 502, 503])
)
def test_a_wait_is_at_least_what_the_server_asks_for_and_bounded(
    lost: int, dice: float, retry_after_s: int, status: int
) -> None:
    talk = Talk(MemoryStore(), Replica(str(uuid.uuid4()), 1))
    for _ in range(lost):
        talk.lose(talk.ask(), dice=0.0)
    talk.take(talk.ask(), status, problem("x"), retry_after_s=retry_after_s, dice=dice)
    assert 0 <= talk.conversation.next_attempt_ms - talk.at_ms - retry_after_s * 1000 <= MOST_MS


async def test_a_new_token_is_asked_for_and_the_request_sent_again(talk: Talk) -> None:
    edit(talk.replica, IDS[0], {"title": "x"})
    refused = talk.ask()
    talk.take(refused, 401, problem("unauthenticated"))
    token = talk.ask()
    assert token.kind == "token"
    talk.take(token, 200, {})
    assert talk.ask() == refused
    await talk.until_it_waits()
    assert not talk.replica.unsent


async def test_a_server_that_never_likes_the_new_token_is_not_asked_in_a_tight_loop(talk: Talk) -> None:
    for _ in range(6):
        talk.take(talk.ask(), 401, problem("unauthenticated"))
        talk.at_ms = max(talk.at_ms, talk.conversation.next_attempt_ms)
        talk.take(talk.ask(), 200, {})
    assert talk.conversation.attempts == 6
    assert talk.at_ms > 5_000_000 + 4 * BASE_MS


@pytest.mark.parametrize("status", [400, 401])
async def test_a_refused_refresh_is_a_logout_that_keeps_the_queue(talk: Talk, status: int) -> None:
    edit(talk.replica, IDS[0], {"title": "x"})
    talk.take(talk.ask(), 401, problem("unauthenticated"))
    talk.take(talk.ask(), status, {"error": "invalid_grant"})
    assert talk.wait().stopped == "signed_out"
    talk.at_ms += 10 * DAY_MS
    assert talk.wait().stopped == "signed_out"
    talk.conversation.signed_in()
    await talk.until_it_waits()
    assert not talk.replica.unsent


async def test_a_lost_refresh_is_tried_again(talk: Talk) -> None:
    talk.take(talk.ask(), 401, problem("unauthenticated"))
    talk.lose(talk.ask())
    talk.at_ms = talk.wait().until_ms
    assert talk.ask().kind == "token"


async def test_an_unknown_device_registers_and_sends_again(talk: Talk) -> None:
    edit(talk.replica, IDS[0], {"title": "x"})
    stamp, cursor = talk.ask().body["changes"][0]["stamp"], talk.replica.cursor
    talk.take(talk.ask(), 409, problem("unknown_device"))
    ask = talk.ask()
    assert (ask.kind, ask.path, ask.body) == ("register", "/v1/devices", REGISTRATION)
    talk.take(ask, 201, {"device_id": IDS[2], "replica": 77})
    again = talk.ask()
    assert again.body["device_id"] == IDS[2]
    assert again.body["cursor"] == cursor
    assert again.body["changes"][0]["stamp"] == stamp
    assert talk.replica.edit("workouts", IDS[0], {"title": "y"}, change_id=IDS[1], now_ms=NOW_MS) & 4095 == 77


async def test_a_device_that_stays_unknown_is_not_registered_in_a_tight_loop(talk: Talk) -> None:
    for _ in range(6):
        talk.take(talk.ask(), 409, problem("unknown_device"))
        talk.at_ms = max(talk.at_ms, talk.conversation.next_attempt_ms)
        talk.take(talk.ask(), 201, {"device_id": IDS[2], "replica": 77})
    assert talk.at_ms > 5_000_000 + 4 * BASE_MS


async def test_a_registration_that_is_refused_stops_and_is_tried_again_later(talk: Talk) -> None:
    talk.take(talk.ask(), 409, problem("unknown_device"))
    talk.take(talk.ask(), 409, problem("too_many_devices"))
    assert talk.wait() == Wait(talk.at_ms + REFUSED_FOR_MS, "refused")
    assert talk.conversation.stopped_for == "too_many_devices"
    talk.at_ms += REFUSED_FOR_MS
    talk.take(talk.ask(), 200, {"device_id": IDS[2], "replica": 77})
    talk.take(talk.ask(), 200, await talk.served(Ask("sync", "", (await device_request(talk)))))
    assert talk.wait().stopped is None


async def device_request(talk: Talk) -> Json:
    other = await device(talk.store)
    return other.request()


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_batch_that_is_refused_is_halved_until_the_culprit_is_alone_and_set_aside(
    talk: Talk, status: int
) -> None:
    for number in range(20):
        edit(talk.replica, IDS[0], {"rpe": number}, name=str(uuid.UUID(int=number + 1)), now_ms=NOW_MS + number)
    culprit = str(uuid.UUID(int=14))
    trips = 0
    while talk.replica.unsent:
        trips += 1
        ask = talk.ask()
        if culprit in {change["id"] for change in ask.body["changes"]}:
            talk.take(ask, status, problem("malformed_body"))
        else:
            talk.take(ask, 200, await talk.served(ask))
    assert trips < 20
    assert list(talk.replica.aside) == [culprit]
    for _ in range(8):  # and then grows again
        talk.conversation.hint()
        await talk.until_it_waits()
    for number in range(200):
        edit(talk.replica, IDS[0], {"rpe": number})
    assert len(talk.ask().body["changes"]) == 200


async def test_a_request_that_is_refused_without_changes_stops_instead_of_setting_changes_aside(talk: Talk) -> None:
    talk.take(talk.ask(), 422, problem("invalid_body"))
    assert talk.wait().stopped == "refused"
    assert talk.conversation.stopped_for == "invalid_body"
    talk.conversation.go_on()
    await talk.until_it_waits()


@pytest.mark.parametrize("status", [403, 404, 405, 406, 415])
async def test_what_no_retry_mends_stops_for_an_hour_and_loses_nothing(talk: Talk, status: int) -> None:
    edit(talk.replica, IDS[0], {"title": "x"})
    talk.take(talk.ask(), status)
    assert talk.wait() == Wait(talk.at_ms + REFUSED_FOR_MS, "refused")
    assert talk.conversation.stopped_for == str(status)
    talk.at_ms += REFUSED_FOR_MS
    await talk.until_it_waits()
    assert not talk.replica.unsent
    assert talk.conversation.stopped is None


async def test_an_erased_account_is_wiped_for_good(talk: Talk) -> None:
    edit(talk.replica, IDS[0], {"title": "x"})
    talk.take(talk.ask(), 410, problem("account_deleted", wipe=True))
    assert not talk.replica.known()
    assert not talk.replica.device_id
    talk.conversation.go_on()
    talk.conversation.signed_in()
    talk.at_ms += 10 * DAY_MS
    assert talk.wait().stopped == "account_deleted"


async def test_a_refresh_that_says_that_the_account_was_erased_wipes_too(talk: Talk) -> None:
    edit(talk.replica, IDS[0], {"title": "x"})
    talk.take(talk.ask(), 401, problem("unauthenticated"))
    talk.take(talk.ask(), 400, {"error": "invalid_grant", "wipe": True})
    assert talk.wait().stopped == "account_deleted"
    assert not talk.replica.known()


@pytest.mark.parametrize("body", [None, [], "x", {"welcome": "to the hotel"}])
async def test_a_success_that_is_not_the_api_s_is_no_answer(talk: Talk, body: Any) -> None:
    edit(talk.replica, IDS[0], {"title": "x"})
    before = talk.replica.snapshot()
    talk.take(talk.ask(), 200, body)
    assert talk.conversation.attempts == 1
    assert talk.replica.snapshot() == before


async def test_limits_bound_the_next_request(talk: Talk) -> None:
    for number in range(100):
        edit(talk.replica, IDS[0], {"rpe": number, "notes": "x" * 1000})
    talk.conversation._most_changes = 1
    ask = talk.ask()
    body = await talk.served(ask)
    talk.take(ask, 200, {**body, "limits": {"max_changes": 7, "max_bytes": 4_000_000, "next_sync_after_s": 0}})
    assert len(talk.ask().body["changes"]) == 2
    for _ in range(4):
        ask = talk.ask()
        body = await talk.served(ask)
        talk.take(ask, 200, {**body, "limits": {"max_changes": 7, "max_bytes": 10_000, "next_sync_after_s": 0}})
    assert len(talk.ask().body["changes"]) == 4  # of some 1,020 bytes, in half of 10,000


async def test_the_wall_clock_s_error_is_known_and_touches_no_stamp(talk: Talk) -> None:
    ask = talk.ask()
    body = await talk.served(ask, server_time="2026-01-01T00:00:00.000Z")
    talk.at_ms += 2_000
    given = Answer(200, body)
    talk.conversation.take(ask, given, steady_ms=talk.at_ms, wall_ms=NOW_MS + 3_600_000 + 1_000, dice=0)
    assert talk.conversation.clock_offset_ms == -3_600_000
    stamp = talk.replica.edit("workouts", IDS[0], {"title": "x"}, change_id=IDS[1], now_ms=NOW_MS + 3_600_000)
    assert stamp >> 21 == NOW_MS + 3_600_000


async def test_a_third_reset_in_a_day_is_not_taken_but_reported(talk: Talk) -> None:
    edit(talk.replica, IDS[0], {"title": "kept"})
    await talk.until_it_waits()
    for number in range(3):
        talk.replica.cursor = "of another server"
        talk.conversation.hint()
        if number < 2:
            assert (await talk.until_it_waits()).stopped is None
    before = registers(talk.replica)
    ask = talk.ask()
    talk.take(ask, 200, await talk.served(ask))
    assert talk.wait() == Wait(talk.at_ms + DAY_MS, "reset_loop")
    assert registers(talk.replica) == before
    assert talk.replica.cursor == "of another server"

    talk.conversation.go_on()  # within the day it finds the same
    ask = talk.ask()
    talk.take(ask, 200, await talk.served(ask))
    assert talk.wait().stopped == "reset_loop"

    talk.at_ms += DAY_MS
    ask = talk.ask()
    talk.take(ask, 200, await talk.served(ask, server_time="2026-01-02T00:00:01.000Z"))
    assert (await talk.until_it_waits()).stopped is None
    assert registers(talk.replica) == before


async def test_a_repair_takes_turns_with_round_trips(talk: Talk) -> None:
    for number in range(30):
        edit(talk.replica, str(uuid.UUID(int=number + 1)), {"title": "x"})
    await talk.until_it_waits()
    replica = Replica.restore(talk.replica.snapshot())
    for number in range(5):
        replica._answered.drop(Key("workouts", str(uuid.UUID(int=number + 1))))
    talk = Talk(talk.store, replica)
    for number in range(8):
        edit(replica, IDS[0], {"rpe": number})
        ask = talk.ask()
        talk.take(ask, 200, await talk.served(ask))
    kinds = [ask.kind for ask in talk.asked]
    assert kinds[:4] == ["sync", "digest", "sync", "fetch"]
    await talk.until_it_waits()
    assert registers(talk.replica) == await expected(talk.store)
    assert "fetch" in kinds


@pytest.mark.parametrize("status", [404, 422, 400])
async def test_a_server_that_refuses_repairs_is_synced_with_all_the_same(talk: Talk, status: int) -> None:
    edit(talk.replica, IDS[0], {"title": "x"})
    await talk.until_it_waits()
    talk.replica._answered.drop(Key("workouts", IDS[0]))
    talk.conversation.hint()
    ask = talk.ask()
    talk.take(ask, 200, await talk.served(ask))
    talk.take(talk.ask(), status, problem("not_found"))
    assert talk.replica.diverged == {"workouts"}
    assert talk.wait().stopped is None
