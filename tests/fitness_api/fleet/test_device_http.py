"""The driver against a gateway that is really served: what the conversation asks is sent, and what came is taken and committed."""

import random
import uuid
from typing import Any

import httpx
import pytest

from fitness_api.fleet.device_http import DeviceHttp, Exchange, Login, log_in, register, sign_up
from fitness_api.fleet.errors import EnrolmentRefused
from sync.changes import Format
from sync.conversation import Conversation
from sync.document import Key
from sync.replica import Replica
from tests.fitness_api.client import CREDENTIALS, installation

DOCUMENT = str(uuid.UUID(int=1))
KEY = Key("workouts", DOCUMENT)


class Phone:
    """An installation with a store of its own."""

    def __init__(self, http: httpx.AsyncClient, login: Login, replica: Replica, body_format: Format = "json") -> None:
        self.login = login
        self.store = replica.snapshot()
        self.exchanges: list[Exchange] = []
        self.device = DeviceHttp(
            http,
            login,
            Conversation(replica, installation()),
            commit=self.commit,
            note=self.exchanges.append,
            dice=random.Random(1),
            body_format=body_format,
        )

    def commit(self, snapshot: bytes) -> None:
        self.store = snapshot

    @property
    def replica(self) -> Replica:
        return self.device.conversation.replica

    def edit(self, **given: Any) -> None:
        self.replica.edit("workouts", DOCUMENT, given, change_id=str(uuid.uuid4()), now_ms=1_767_225_600_000)


async def phone_of(api: httpx.AsyncClient, login: Login, body_format: Format = "json") -> Phone:
    return Phone(api, login, await register(api, login, installation()), body_format)


@pytest.fixture
async def login(api: httpx.AsyncClient) -> Login:
    return await sign_up(api, CREDENTIALS["email"], CREDENTIALS["password"])


@pytest.mark.parametrize("body_format", ["json", "msgpack"])
async def test_two_devices_sync_over_http_in_either_format(
    api: httpx.AsyncClient, login: Login, body_format: Format
) -> None:
    phone = await phone_of(api, login, body_format)
    watch = await phone_of(api, await log_in(api, CREDENTIALS["email"], CREDENTIALS["password"]))
    phone.edit(title="Ride", notes=[1, 2.5, {"a": None}])
    await phone.device.until_rest()
    await watch.device.until_rest()
    assert watch.replica.shown(KEY) == {"title": "Ride", "notes": [1, 2.5, {"a": None}]}
    assert Replica.restore(watch.store).answered == watch.replica.answered == phone.replica.answered
    assert {one.kind for one in phone.exchanges} == {"sync"}
    assert all(one.status == 200 and one.up_bytes and one.down_bytes for one in phone.exchanges)


async def test_an_expired_token_is_renewed(api: httpx.AsyncClient, login: Login) -> None:
    phone = await phone_of(api, login)
    before = phone.login.refresh_token
    phone.login.access_token = "expired"
    phone.edit(title="Ride")
    await phone.device.until_rest()
    assert not phone.replica.unsent
    assert phone.login.refresh_token != before
    assert [one.status for one in phone.exchanges] == [401, 200]


async def test_a_login_that_ended_stops_the_device_and_keeps_its_queue(api: httpx.AsyncClient, login: Login) -> None:
    phone = await phone_of(api, login)
    phone.login.access_token = phone.login.refresh_token = "of nobody"
    phone.edit(title="Ride")
    assert (await phone.device.until_rest()).stopped == "signed_out"
    assert Replica.restore(phone.store).unsent
    again = await log_in(api, CREDENTIALS["email"], CREDENTIALS["password"])
    phone.login.access_token, phone.login.refresh_token = again.access_token, again.refresh_token
    phone.device.conversation.signed_in()
    await phone.device.until_rest()
    assert not phone.replica.unsent


async def test_a_device_that_was_deleted_registers_and_goes_on(api: httpx.AsyncClient, login: Login) -> None:
    phone = await phone_of(api, login)
    number = phone.replica.number
    deleted = await api.delete(f"/v1/devices/{phone.replica.device_id}", headers=login.headers)
    assert deleted.status_code == 204
    phone.edit(title="Ride")
    await phone.device.until_rest()
    assert not phone.replica.unsent
    assert phone.replica.number != number
    assert [one.kind for one in phone.exchanges] == ["sync", "register", "sync"]


async def test_a_damaged_store_is_repaired_over_http(api: httpx.AsyncClient, login: Login) -> None:
    phone = await phone_of(api, login, "msgpack")
    phone.edit(title="Ride", notes="…")
    await phone.device.until_rest()
    replica = Replica.restore(phone.store)
    replica._answered.drop(KEY)
    hurt = Phone(api, login, Replica.restore(replica.snapshot()))
    await hurt.device.until_rest()
    assert hurt.replica.answered == phone.replica.answered
    assert [one.kind for one in hurt.exchanges] == ["sync", "digest", "fetch", "sync"]


async def test_what_cannot_be_read_and_what_does_not_come_counts_as_lost(login: Login) -> None:
    answers = iter([httpx.Response(200, text="<html>captive portal"), httpx.Response(502, text="<html>proxy")])

    def answer(_: httpx.Request) -> httpx.Response:
        if (given := next(answers, None)) is None:
            raise httpx.ConnectError("gone")
        return given

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://api.test") as http:
        phone = Phone(http, login, Replica("d", 1))
        phone.edit(title="Ride")
        for attempts in (1, 2, 3):
            phone.device.conversation.next_attempt_ms = 0
            await phone.device.step()
            assert phone.device.conversation.attempts == attempts
        assert phone.replica.unsent
        assert [one.status for one in phone.exchanges] == [200, 502, None]
        with pytest.raises(EnrolmentRefused, match="No API answers"):
            await sign_up(http, "a@example.org", "x")


async def test_a_refused_enrolment_says_why(api: httpx.AsyncClient, login: Login) -> None:
    with pytest.raises(EnrolmentRefused, match="email_taken"):
        await sign_up(api, CREDENTIALS["email"], CREDENTIALS["password"])
    with pytest.raises(EnrolmentRefused, match="invalid_credentials"):
        await log_in(api, CREDENTIALS["email"], "wrong")
