"""Adding and removing second factors: what is on record, and what ends."""

import asyncio
from typing import Any

import msgspec
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.errors import InvalidBody
from fitness_api.identity.errors import GrantInvalid, LastWayIn, NoSecondFactor, TotpNotBegun
from fitness_api.identity.factors import totp
from fitness_api.identity.factors.completion import RecoveryCode
from fitness_api.identity.factors.passkeys import NewCredential
from tests.fitness_api.identity.factors.authenticator import Authenticator
from tests.fitness_api.identity.factors.conftest import HERE, Person, told


async def test_nothing_secret_is_at_rest(ada: Person, database: AsyncDatabase[dict[str, Any]]) -> None:
    await ada.use_app()
    token = await ada.mfa_token()
    await ada.enrolment.begin_totp(await ada.account())
    everything = "".join(
        [repr(row) for name in await database.list_collection_names() async for row in database[name].find({})]
    )
    for secret in (ada.secret, *ada.codes, *(code.replace("-", "") for code in ada.codes), token):
        assert repr(secret)[2:-1] not in everything
    assert totp.encoded(ada.secret) not in everything


async def test_a_change_is_on_record_and_ends_logins_under_way(ada: Person) -> None:
    await ada.use_app()
    phone = await ada.use_passkey()
    held = await ada.enrolment.held(ada.user_id)
    token, challenge = await ada.mfa_token(), told(await ada.enrolment.passkey_options(await ada.account()))
    ada.codes = await ada.enrolment.renew_codes(ada.caller)
    with pytest.raises(GrantInvalid):
        await ada.completion.complete(token, RecoveryCode(ada.codes[0]), origin=HERE)
    credential = msgspec.convert(Authenticator().create(challenge), NewCredential)
    with pytest.raises(InvalidBody):
        await ada.enrolment.add_passkey(ada.caller, credential, name=None)
    assert await ada.enrolment.remove_passkey(ada.caller, held.passkeys[0].id)
    assert await ada.enrolment.remove_totp(ada.caller)
    assert not await ada.enrolment.remove_totp(ada.caller)
    assert await ada.proofs.ways(ada.user_id) == ()
    assert phone.user_handle is not None
    events = await ada.audit.of(ada.user_id, limit=5)
    assert [event.kind for event in reversed(events)] == [
        "totp_added",
        "passkey_added",
        "recovery_codes_renewed",
        "passkey_removed",
        "totp_removed",
    ]
    assert {event.session_id for event in events} == {ada.caller.session_id}
    assert events[1].details == {"passkey": "Phone"}


async def test_a_wrong_code_confirms_nothing(ada: Person) -> None:
    with pytest.raises(TotpNotBegun):
        await ada.enrolment.confirm_totp(ada.caller, "000000")
    await ada.enrolment.begin_totp(await ada.account())
    ada.secret = await ada._secret()
    with pytest.raises(InvalidBody):
        await ada.enrolment.confirm_totp(ada.caller, ada.wrong_code())
    assert await ada.proofs.ways(ada.user_id) == ()
    assert await ada.enrolment.remove_totp(ada.caller)
    with pytest.raises(TotpNotBegun):
        await ada.enrolment.confirm_totp(ada.caller, ada.code())
    assert await ada.events() == ["registered", "logged_in"]


async def test_of_fifty_confirmations_at_once_one_gives_codes_that_hold(ada: Person) -> None:
    await ada.enrolment.begin_totp(await ada.account())
    ada.secret = await ada._secret()
    answers = await asyncio.gather(
        *(ada.enrolment.confirm_totp(ada.caller, ada.code()) for _ in range(50)), return_exceptions=True
    )
    (ada.codes,) = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert sum(isinstance(answer, TotpNotBegun) for answer in answers) == 49
    assert await ada.completion.complete(await ada.mfa_token(), RecoveryCode(ada.codes[9]), origin=HERE)


async def test_of_fifty_answers_to_one_challenge_one_makes_a_passkey(ada: Person) -> None:
    options = told(await ada.enrolment.passkey_options(await ada.account()))
    credential = msgspec.convert(Authenticator().create(options), NewCredential)
    answers = await asyncio.gather(
        *(ada.enrolment.add_passkey(ada.caller, credential, name=None) for _ in range(50)), return_exceptions=True
    )
    (added,) = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert sum(isinstance(answer, InvalidBody) for answer in answers) == 49
    assert (added.passkey.name, len(added.recovery_codes or ())) == ("Passkey", 10)


async def test_a_challenge_of_another_account_makes_no_passkey(ada: Person, bob: Person) -> None:
    options = told(await bob.enrolment.passkey_options(await bob.account()))
    credential = msgspec.convert(Authenticator().create(options), NewCredential)
    with pytest.raises(InvalidBody):
        await ada.enrolment.add_passkey(ada.caller, credential, name=None)


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "a\x00b", "a\nb", "\ud800"])
async def test_a_passkeys_name_is_a_name(ada: Person, name: str) -> None:
    await ada.use_passkey()
    (passkey,) = (await ada.enrolment.held(ada.user_id)).passkeys
    with pytest.raises(InvalidBody):
        await ada.enrolment.rename_passkey(ada.caller, passkey.id, name)


async def test_the_last_way_in_stays(ada: Person, database: AsyncDatabase[dict[str, Any]]) -> None:
    await ada.use_passkey()
    await ada.use_passkey()
    first, second = (await ada.enrolment.held(ada.user_id)).passkeys
    await database["accounts"].update_one({"_id": ada.user_id}, {"$set": {"password_hash": None}})
    assert await ada.enrolment.remove_passkey(ada.caller, first.id)
    assert not await ada.enrolment.remove_passkey(ada.caller, first.id)
    with pytest.raises(LastWayIn):
        await ada.enrolment.remove_passkey(ada.caller, second.id)
    linked = {"identities": [{"issuer": "https://accounts.example"}]}
    await database["accounts"].update_one({"_id": ada.user_id}, {"$set": linked})
    assert await ada.enrolment.remove_passkey(ada.caller, second.id)


async def test_recovery_codes_are_for_a_second_factor(ada: Person) -> None:
    with pytest.raises(NoSecondFactor):
        await ada.enrolment.renew_codes(ada.caller)
