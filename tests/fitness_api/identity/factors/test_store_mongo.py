"""Each bullet of the port, against a real server."""

import asyncio
from typing import Any
from uuid import uuid4

import pymongo
import pytest
from msgspec.structs import replace
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity.errors import NoSecondFactor, StoreUnavailable
from fitness_api.identity.factors import second_factors
from fitness_api.identity.factors.passkeys import Passkey
from fitness_api.identity.factors.second_factors import Begun, SecondFactors, Totp
from fitness_api.identity.factors.store import FactorStore
from fitness_api.identity.factors.store_mongo import MongoFactorStore

NOW_MS = 4_000_000_000_000


@pytest.fixture
def factors(database: AsyncDatabase[dict[str, Any]]) -> MongoFactorStore:
    return MongoFactorStore(database)


def everything(user_id: str) -> SecondFactors:
    phone = Passkey(
        id=str(uuid4()),
        credential_id=b"\x00c",
        public_key=b"\xffk",
        sign_count=3,
        synced=True,
        backed_up=True,
        transports=("internal",),
        aaguid="a",
        name="Phone",
        created_at_ms=NOW_MS,
        used_at_ms=NOW_MS,
    )
    return SecondFactors(
        user_id=user_id,
        totp=Totp(sealed=b"\xfe", since_ms=NOW_MS, last_step=7),
        begun=Begun(sealed=b"\xfd", expires_at_ms=NOW_MS),
        wrong_codes=2,
        wrong_at_ms=NOW_MS,
        recovery_digests=(b"\x80", b"\x81"),
        recovery_made_at_ms=NOW_MS,
        passkeys=(phone,),
    )


def counted(held: SecondFactors) -> tuple[SecondFactors, int]:
    return replace(held, wrong_codes=held.wrong_codes + 1), held.wrong_codes


def test_it_is_a_store(factors: MongoFactorStore) -> None:
    _: FactorStore = factors


async def test_an_account_of_which_nothing_was_stored_holds_nothing(factors: MongoFactorStore) -> None:
    user_id = str(uuid4())
    assert await factors.held(user_id) == SecondFactors(user_id=user_id)


async def test_what_was_stored_is_read_by_its_account_only(factors: MongoFactorStore) -> None:
    ada, bob = str(uuid4()), str(uuid4())
    assert await factors.change(ada, lambda _: (everything(ada), "done")) == "done"
    held = await factors.held(ada)
    assert held == replace(everything(ada), version=1, passkeys=held.passkeys)
    assert replace(held.passkeys[0], id="") == replace(everything(ada).passkeys[0], id="")
    assert await factors.held(bob) == SecondFactors(user_id=bob)
    await factors.change(bob, counted)
    assert await factors.held(ada) == held


async def test_fifty_changes_at_once_each_see_those_before(factors: MongoFactorStore) -> None:
    user_id = str(uuid4())
    seen = await asyncio.gather(*(factors.change(user_id, counted) for _ in range(50)))
    assert sorted(seen) == list(range(50))
    assert (await factors.held(user_id)).wrong_codes == 50


async def test_what_is_refused_or_stays_as_it_was_stores_nothing(factors: MongoFactorStore) -> None:
    user_id = str(uuid4())
    with pytest.raises(NoSecondFactor):
        await factors.change(user_id, lambda held: (second_factors.renew_codes(held, (), NOW_MS), None))
    assert await factors.change(user_id, lambda held: (held, "same")) == "same"
    assert (await factors.held(user_id)).version == 0


async def test_a_database_that_does_not_answer_is_unavailable(factors: MongoFactorStore) -> None:
    user_id = str(uuid4())
    for call in (factors.held(user_id), factors.change(user_id, counted)):
        with pymongo.timeout(1e-6), pytest.raises(StoreUnavailable):
            await call
    assert await factors.change(user_id, counted) == 0
