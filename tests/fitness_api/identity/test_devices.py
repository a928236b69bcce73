import asyncio
import uuid
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity import refresh_tokens
from fitness_api.identity.devices import Devices
from fitness_api.identity.store import DeviceDetails, PushAddress
from fitness_api.identity.store_mongo import MongoStore
from sync.errors import TooManyDevices
from sync.head import MAX_DEVICES
from sync.store_mongo import MongoStore as SyncStore
from tests.fitness_api.identity.conftest import Clock

PHONE = DeviceDetails(platform="ios", app_version="1.0")


def new_id() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def replicas(database: AsyncDatabase[dict[str, Any]]) -> SyncStore:
    return SyncStore(database)


@pytest.fixture
def devices(store: MongoStore, replicas: SyncStore, clock: Clock) -> Devices:
    return Devices(store, replicas, now_ms=clock)


async def known_to_sync(replicas: SyncStore, user_id: str) -> dict[str, int]:
    head = await replicas.head(user_id)
    return {} if head is None else {device_id: device.replica for device_id, device in head.devices.items()}


async def test_an_installation_keeps_its_device_id_and_replica(devices: Devices) -> None:
    user_id, installation = new_id(), new_id()
    first = await devices.register(user_id, new_id(), installation, PHONE)
    assert first.first
    assert 1 <= first.replica <= 4095
    again = await devices.register(user_id, new_id(), installation, DeviceDetails(platform="ios", app_version="2.0"))
    assert again == first._replace(first=False)
    (listed,) = await devices.of(user_id)
    assert (listed.device_id, listed.replica, listed.details.app_version) == (first.device_id, first.replica, "2.0")


async def test_fifty_registrations_at_once_get_fifty_replicas(devices: Devices, replicas: SyncStore) -> None:
    user_id = new_id()
    registered = await asyncio.gather(*(devices.register(user_id, new_id(), new_id(), PHONE) for _ in range(50)))
    assert len({one.replica for one in registered}) == 50
    assert len({one.device_id for one in registered}) == 50
    assert await known_to_sync(replicas, user_id) == {one.device_id: one.replica for one in registered}


async def test_one_installation_that_registers_fifty_times_at_once_is_one_device(
    devices: Devices, replicas: SyncStore
) -> None:
    user_id, installation = new_id(), new_id()
    registered = await asyncio.gather(*(devices.register(user_id, new_id(), installation, PHONE) for _ in range(50)))
    assert len({(one.device_id, one.replica) for one in registered}) == 1
    assert [one.first for one in registered].count(True) == 1
    assert len(await known_to_sync(replicas, user_id)) == 1


async def test_one_installation_in_two_accounts_is_two_devices(devices: Devices) -> None:
    installation = new_id()
    one = await devices.register(new_id(), new_id(), installation, PHONE)
    other = await devices.register(new_id(), new_id(), installation, PHONE)
    assert one.device_id != other.device_id


async def test_a_registration_that_was_cut_off_is_made_good_by_the_next(
    devices: Devices, store: MongoStore, replicas: SyncStore
) -> None:
    user_id, installation, device_id = new_id(), new_id(), new_id()
    await store.claim_device(user_id, installation, PHONE, device_id=device_id, now_ms=0)
    replica = await replicas.register_device(user_id, device_id)
    registered = await devices.register(user_id, new_id(), installation, PHONE)
    assert (registered.device_id, registered.replica) == (device_id, replica)


async def test_a_removal_that_was_cut_off_leaves_a_device_that_can_register_again(
    devices: Devices, replicas: SyncStore
) -> None:
    user_id, installation = new_id(), new_id()
    first = await devices.register(user_id, new_id(), installation, PHONE)
    await replicas.forget_device(user_id, first.device_id)
    again = await devices.register(user_id, new_id(), installation, PHONE)
    assert await known_to_sync(replicas, user_id) == {again.device_id: again.replica}
    (listed,) = await devices.of(user_id)
    assert listed.replica == again.replica


async def test_a_removed_device_is_gone_and_its_replica_never_comes_back(devices: Devices, replicas: SyncStore) -> None:
    user_id, installation = new_id(), new_id()
    first = await devices.register(user_id, new_id(), installation, PHONE)
    assert await devices.remove(user_id, first.device_id)
    assert not await devices.remove(user_id, first.device_id)
    assert await devices.of(user_id) == []
    assert await known_to_sync(replicas, user_id) == {}
    again = await devices.register(user_id, new_id(), installation, PHONE)
    assert again.first
    assert again.device_id != first.device_id
    assert again.replica != first.replica


async def test_registering_and_removing_at_once_leave_what_is_listed_and_what_syncs_alike(
    devices: Devices, replicas: SyncStore
) -> None:
    user_id, installation = new_id(), new_id()
    first = await devices.register(user_id, new_id(), installation, PHONE)
    for _ in range(5):
        await asyncio.gather(
            devices.remove(user_id, first.device_id),
            *(devices.register(user_id, new_id(), installation, PHONE) for _ in range(3)),
        )
        last = await devices.register(user_id, new_id(), installation, PHONE)
        listed = {device.device_id: device.replica for device in await devices.of(user_id)}
        assert listed == await known_to_sync(replicas, user_id) == {last.device_id: last.replica}
        first = last


async def test_one_device_too_many_is_refused_and_leaves_nothing(devices: Devices, store: MongoStore) -> None:
    user_id = new_id()
    for _ in range(MAX_DEVICES):
        await devices._replicas.register_device(user_id, new_id())
    with pytest.raises(TooManyDevices):
        await devices.register(user_id, new_id(), new_id(), PHONE)
    assert await store._devices.count_documents({"user_id": user_id}) == 0


async def test_anothers_device_is_unknown(devices: Devices) -> None:
    user_id = new_id()
    mine = await devices.register(user_id, new_id(), new_id(), PHONE)
    assert not await devices.remove(new_id(), mine.device_id)
    assert await devices.change(new_id(), new_id(), mine.device_id, {"model": "x"}) is None
    (listed,) = await devices.of(user_id)
    assert listed.details == PHONE


async def test_a_change_touches_what_it_names(devices: Devices, store: MongoStore, clock: Clock) -> None:
    user_id = new_id()
    session = refresh_tokens.begin(
        user_id=user_id, session_id=new_id(), client_id="app", scopes=(), user_agent="", now_ms=clock()
    )
    await store.add_session(session)
    token = PushAddress("fid", "f1")
    mine = await devices.register(user_id, session.session_id, new_id(), PHONE, token)
    changed = await devices.change(user_id, session.session_id, mine.device_id, {"model": "Pixel 9"})
    assert changed is not None
    assert (changed.details.model, changed.details.app_version, changed.push_kind) == ("Pixel 9", "1.0", "fid")
    again = await devices.register(user_id, session.session_id, new_id(), PHONE, token)
    changed = await devices.change(user_id, session.session_id, mine.device_id, {})
    assert changed is not None
    assert changed.push_kind is None
    for push, drop, kind in ((token, False, "fid"), (None, False, "fid"), (None, True, None)):
        changed = await devices.change(user_id, session.session_id, again.device_id, {}, push=push, drop_push=drop)
        assert changed is not None
        assert changed.push_kind == kind
