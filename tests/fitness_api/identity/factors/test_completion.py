"""Logins with a second factor, and by a passkey: what holds once, and what guessing gets."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Any
from uuid import UUID

import msgspec
import pytest

from fitness_api.identity.erasure_store_mongo import MongoErasureStore
from fitness_api.identity.errors import (
    AccountDeleted,
    GrantInvalid,
    InvalidCredentials,
    MfaRequired,
    NoSecondFactor,
    PasskeyRefused,
    ReauthenticationRequired,
    SecondFactorRefused,
    TooManyGuesses,
)
from fitness_api.identity.factors.completion import MAX_MISSES, Completed, RecoveryCode, TotpCode
from fitness_api.identity.factors.passkeys import Assertion
from fitness_api.identity.logins import PENDING_MS
from fitness_api.identity.scopes import PAGES
from tests.fitness_api.identity.factors.authenticator import PRESENT, Authenticator
from tests.fitness_api.identity.factors.conftest import HERE, PASSWORD, Person, told

REFUSALS = (GrantInvalid, SecondFactorRefused, TooManyGuesses, PasskeyRefused)


async def outcomes(calls: Sequence[Awaitable[Completed]]) -> Counter[str]:
    async def outcome(call: Awaitable[Completed]) -> str:
        try:
            await call
        except REFUSALS as refused:
            return type(refused).__name__
        return "in"

    return Counter(await asyncio.gather(*(outcome(call) for call in calls)))


async def test_an_app_completes_a_login(ada: Person) -> None:
    await ada.use_app()
    token = await ada.mfa_token()
    assert await ada.completion.ways(token) == ("totp", "recovery_code")
    _, pair = await ada.completion.complete(token, TotpCode(ada.code()), origin=HERE)
    principal = await ada.sessions.authenticate(f"Bearer {pair.access_token}")
    assert principal.methods == ("pwd", "otp", "mfa")
    with pytest.raises(GrantInvalid):
        await ada.completion.complete(token, TotpCode(ada.code(1)), origin=HERE)
    assert await ada.events() == ["registered", "logged_in", "totp_added", "logged_in"]


async def test_a_recovery_code_completes_a_login_once(ada: Person) -> None:
    await ada.use_app()
    assert len(set(ada.codes)) == 10
    code = RecoveryCode(ada.codes[3].upper().replace("-", " "))
    assert await ada.completion.complete(await ada.mfa_token(), code, origin=HERE)
    with pytest.raises(SecondFactorRefused):
        await ada.completion.complete(await ada.mfa_token(), code, origin=HERE)
    assert len((await ada.enrolment.held(ada.user_id)).recovery_digests) == 9
    assert (await ada.events())[-3:] == ["recovery_code_used", "logged_in", "mfa_failed"]


async def test_a_passkey_completes_a_login(ada: Person) -> None:
    phone = await ada.use_passkey(counts=True)
    token = await ada.mfa_token()
    assert await ada.completion.ways(token) == ("passkey", "recovery_code")
    options = told(await ada.completion.passkey_options(token))
    assert [one["type"] for one in options["allowCredentials"]] == ["public-key"]
    _, pair = await ada.completion.complete(token, msgspec.convert(phone.get(options), Assertion), origin=HERE)
    principal = await ada.sessions.authenticate(f"Bearer {pair.access_token}")
    assert principal.methods == ("pwd", "hwk", "mfa")


async def test_a_passkey_logs_in_by_itself(ada: Person) -> None:
    phone = await ada.use_passkey()
    options = told(await ada.proofs.login_options())
    assert options["allowCredentials"] == []
    _, pair = await ada.completion.passkey_login(msgspec.convert(phone.get(options), Assertion), origin=HERE)
    principal = await ada.sessions.authenticate(f"Bearer {pair.access_token}")
    assert (principal.user_id, principal.methods) == (ada.user_id, ("hwk", "user", "mfa"))
    await ada.logins.require_second_factor(principal)


# ------------------------------------------------------------------------------------------------------------- only once


async def test_of_fifty_uses_of_one_code_at_once_one_holds(ada: Person) -> None:
    await ada.use_app()
    tokens = [await ada.mfa_token() for _ in range(50)]
    code = TotpCode(ada.code())
    found = await outcomes([ada.completion.complete(token, code, origin=HERE) for token in tokens])
    assert found["in"] == 1
    assert set(found) <= {"in", "SecondFactorRefused", "TooManyGuesses"}


async def test_of_fifty_uses_of_one_token_at_once_one_holds(ada: Person) -> None:
    await ada.use_app()
    token = await ada.mfa_token()
    found = await outcomes([ada.completion.complete(token, RecoveryCode(code), origin=HERE) for code in ada.codes * 5])
    assert found["in"] == 1
    assert len(await ada.sessions.of(ada.user_id)) == 2


async def test_of_fifty_uses_of_one_recovery_code_at_once_one_holds(ada: Person) -> None:
    await ada.use_app()
    tokens = [await ada.mfa_token() for _ in range(50)]
    code = RecoveryCode(ada.codes[0])
    assert await outcomes([ada.completion.complete(token, code, origin=HERE) for token in tokens]) == {
        "in": 1,
        "SecondFactorRefused": 49,
    }


@pytest.mark.parametrize("way", ["passkey_login", "passkey_mfa"])
async def test_of_fifty_answers_to_one_challenge_at_once_one_holds(ada: Person, way: str) -> None:
    phone = await ada.use_passkey()
    if way == "passkey_login":
        answer = msgspec.convert(phone.get(told(await ada.proofs.login_options())), Assertion)
        calls = [ada.completion.passkey_login(answer, origin=HERE) for _ in range(50)]
    else:
        tokens = [await ada.mfa_token() for _ in range(50)]
        answer = await ada.shown(phone, tokens[0])
        calls = [ada.completion.complete(token, answer, origin=HERE) for token in tokens]
    assert await outcomes(calls) == {"in": 1, "PasskeyRefused": 49}


async def test_a_challenge_is_for_its_purpose_and_account_and_five_minutes(ada: Person, bob: Person) -> None:
    phone, other = await ada.use_passkey(), await bob.use_passkey()
    token = await ada.mfa_token()
    for_login = msgspec.convert(phone.get(told(await ada.proofs.login_options())), Assertion)
    with pytest.raises(PasskeyRefused):
        await ada.completion.complete(token, for_login, origin=HERE)
    for_mfa = await ada.shown(phone, token)
    with pytest.raises(PasskeyRefused):
        await ada.completion.passkey_login(for_mfa, origin=HERE)
    for_bob = await bob.shown(other, await bob.mfa_token())
    with pytest.raises(PasskeyRefused):
        await ada.completion.complete(token, for_bob, origin=HERE)
    late = msgspec.convert(phone.get(told(await ada.proofs.login_options())), Assertion)
    ada.clock.advance(s=300)
    with pytest.raises(PasskeyRefused):
        await ada.completion.passkey_login(late, origin=HERE)


async def test_a_passkey_that_names_another_account_completes_nothing(ada: Person, bob: Person) -> None:
    phone = await ada.use_passkey()
    token = await ada.mfa_token()
    phone.user_handle = UUID(bob.user_id).bytes
    with pytest.raises(PasskeyRefused):
        await ada.completion.complete(token, await ada.shown(phone, token), origin=HERE)
    phone.user_handle = None  # Not every authenticator tells it where it was asked for by id.
    assert await ada.completion.complete(token, await ada.shown(phone, token), origin=HERE)


async def test_another_accounts_passkey_opens_nothing(ada: Person, bob: Person) -> None:
    phone, other = await ada.use_passkey(), await bob.use_passkey()
    # Bob's key under Ada's name, and under Ada's id as well.
    other.user_handle = phone.user_handle
    for credential_id in (other.credential_id, phone.credential_id):
        other.credential_id = credential_id
        with pytest.raises(PasskeyRefused):
            await ada.completion.passkey_login(
                msgspec.convert(other.get(told(await ada.proofs.login_options())), Assertion), origin=HERE
            )
        with pytest.raises(PasskeyRefused):
            await ada.completion.complete(
                await ada.mfa_token(), await ada.shown(other, await ada.mfa_token()), origin=HERE
            )


async def test_a_passkey_that_did_not_verify_its_user_or_tells_nobodys_name_logs_nobody_in(ada: Person) -> None:
    phone = await ada.use_passkey()
    for change in ({"flags": PRESENT}, {"user_handle": None}, {"user_handle": b"x" * 16}, {"user_handle": b""}):
        wrong = Authenticator(**({"user_handle": phone.user_handle, "key": phone.key} | change))
        wrong.credential_id = phone.credential_id
        answer = msgspec.convert(wrong.get(told(await ada.proofs.login_options())), Assertion)
        with pytest.raises(PasskeyRefused):
            await ada.completion.passkey_login(answer, origin=HERE)


# ------------------------------------------------------------------------------------------------------------- guessing


async def test_the_fifth_wrong_answer_ends_the_login(ada: Person) -> None:
    await ada.use_app()
    token = await ada.mfa_token()
    for _ in range(MAX_MISSES):
        with pytest.raises(SecondFactorRefused):
            await ada.completion.complete(token, RecoveryCode("0000-0000-0000-0000"), origin=HERE)
    with pytest.raises(GrantInvalid):
        await ada.completion.complete(token, RecoveryCode(ada.codes[0]), origin=HERE)
    assert await ada.completion.complete(await ada.mfa_token(), RecoveryCode(ada.codes[0]), origin=HERE)
    assert (await ada.events()).count("mfa_failed") == MAX_MISSES


async def test_fifty_guesses_at_once_in_fifty_logins_are_five(ada: Person) -> None:
    await ada.use_app()
    tokens = [await ada.mfa_token() for _ in range(50)]
    wrong = TotpCode(ada.wrong_code())
    assert await outcomes([ada.completion.complete(token, wrong, origin=HERE) for token in tokens]) == {
        "SecondFactorRefused": 5,
        "TooManyGuesses": 45,
    }
    with pytest.raises(TooManyGuesses) as refused:
        await ada.completion.complete(await ada.mfa_token(), TotpCode(ada.code()), origin=HERE)
    assert 29 <= refused.value.retry_after_s <= 31
    assert (await ada.events()).count("mfa_guessed") == 1
    assert await ada.completion.complete(await ada.mfa_token(), RecoveryCode(ada.codes[0]), origin=HERE)
    assert await ada.completion.complete(await ada.mfa_token(), TotpCode(ada.code()), origin=HERE)


async def test_a_wait_is_no_wrong_answer(ada: Person) -> None:
    await ada.use_app()
    for _ in range(5):
        with pytest.raises(SecondFactorRefused):
            await ada.completion.complete(await ada.mfa_token(), TotpCode(ada.wrong_code()), origin=HERE)
    token = await ada.mfa_token()
    for _ in range(10):
        with pytest.raises(TooManyGuesses):
            await ada.completion.complete(token, TotpCode(ada.code()), origin=HERE)
    ada.clock.advance(s=31)
    assert await ada.completion.complete(token, TotpCode(ada.code()), origin=HERE)


# ------------------------------------------------------------------------------------------------- what a login is bound to


async def test_a_login_waits_five_minutes(ada: Person) -> None:
    await ada.use_app()
    token = await ada.mfa_token()
    ada.clock.advance(s=PENDING_MS / 1000)
    for call in (
        ada.completion.complete(token, TotpCode(ada.code()), origin=HERE),
        ada.completion.ways(token),
        ada.completion.passkey_options(token),
        ada.completion.ways("nothing"),
    ):
        with pytest.raises(GrantInvalid):
            await call


async def test_a_login_is_completed_with_the_key_that_it_was_begun_with(ada: Person) -> None:
    await ada.use_app()
    with pytest.raises(MfaRequired) as required:
        await ada.logins.login(email=ada.email, password=PASSWORD, origin=HERE, key_thumbprint="ada's")
    token = required.value.mfa_token
    for other in (None, "another"):
        with pytest.raises(GrantInvalid):
            await ada.completion.complete(token, TotpCode(ada.code()), origin=HERE, key_thumbprint=other)
    _, pair = await ada.completion.complete(token, TotpCode(ada.code()), origin=HERE, key_thumbprint="ada's")
    assert pair.access_token


async def test_a_login_is_completed_by_the_client_that_began_it(ada: Person) -> None:
    await ada.use_app()
    with pytest.raises(MfaRequired) as required:
        await ada.logins.admit(ada.user_id, methods=("pwd",), client_id=PAGES, origin=HERE)
    token = required.value.mfa_token
    with pytest.raises(GrantInvalid):
        await ada.completion.complete(token, TotpCode(ada.code()), origin=HERE)
    _, pair = await ada.completion.complete(token, TotpCode(ada.code()), client_id=PAGES, origin=HERE)
    assert (await ada.sessions.authenticate(f"Bearer {pair.access_token}")).client_id == PAGES


async def test_another_accounts_code_completes_nothing(ada: Person, bob: Person) -> None:
    await ada.use_app()
    await bob.use_app()
    for wrong in (TotpCode(bob.code()), RecoveryCode(bob.codes[0])):
        with pytest.raises(SecondFactorRefused):
            await ada.completion.complete(await ada.mfa_token(), wrong, origin=HERE)


async def test_an_account_without_passkeys_asks_for_none(ada: Person) -> None:
    await ada.use_app()
    with pytest.raises(NoSecondFactor):
        await ada.completion.passkey_options(await ada.mfa_token())


async def test_an_erased_account_is_nobodys(ada: Person, database: Any) -> None:
    phone = await ada.use_passkey()
    token = await ada.mfa_token()
    answer = msgspec.convert(phone.get(told(await ada.proofs.login_options())), Assertion)
    erasures = MongoErasureStore(database, address_key=b"k")
    await erasures.bury(ada.user_id, now_ms=ada.clock.now_ms)
    # Between two steps of the erasure, and after it.
    with pytest.raises((InvalidCredentials, AccountDeleted)):
        await ada.completion.complete(token, RecoveryCode(ada.codes[0]), origin=HERE)
    await erasures.end_logins(ada.user_id)
    with pytest.raises(PasskeyRefused):
        await ada.completion.passkey_login(answer, origin=HERE)


# ---------------------------------------------------------------------------------------------------------------- step-up


async def test_what_needs_a_recent_login_needs_the_second_factor_where_there_is_one(ada: Person) -> None:
    pair = await ada.logins.login(email=ada.email, password=PASSWORD, origin=HERE)
    principal = await ada.sessions.authenticate(f"Bearer {pair.access_token}")
    await ada.logins.require_second_factor(principal)
    await ada.use_app()
    with pytest.raises(ReauthenticationRequired):
        await ada.logins.require_second_factor(principal)
    _, pair = await ada.completion.complete(await ada.mfa_token(), TotpCode(ada.code()), origin=HERE)
    await ada.logins.require_second_factor(await ada.sessions.authenticate(f"Bearer {pair.access_token}"))
    pair = await ada.sessions.refresh(pair.refresh_token)
    await ada.logins.require_second_factor(await ada.sessions.authenticate(f"Bearer {pair.access_token}"))
