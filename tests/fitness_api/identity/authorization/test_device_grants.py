from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fitness_api.identity.authorization import device_grants
from fitness_api.identity.authorization.device_grants import ALPHABET, Approval, DeviceGrant, poll

NOW = 1_700_000_000_000
GRANT = DeviceGrant(
    name="n",
    secret_digest=b"d",
    client_id="c",
    scopes=("sync",),
    place="",
    user_agent="",
    created_at_ms=NOW,
    expires_at_ms=NOW + 600_000,
)
APPROVED = replace(
    GRANT,
    state="approved",
    approval=Approval(user_id="u", session_id="s", methods=("pwd",), authenticated_at_ms=NOW),
)


def test_a_code_has_eight_of_twenty_letters() -> None:
    assert (len(set(ALPHABET)), device_grants.LETTERS) == (20, 8)
    assert not set(ALPHABET) & set("AEIOUY0125")
    code = device_grants.drawn(Random(1).randrange)
    assert device_grants.read(device_grants.shown(code)) == code
    assert len(device_grants.shown(code)) == 9


@given(st.integers(), st.sampled_from(["", "-", " ", "\u2011", " - "]), st.booleans())
def test_however_it_is_typed_it_is_the_code(seed: int, separator: str, lower: bool) -> None:
    code = device_grants.drawn(Random(seed).randrange)
    typed = f" {code[:4]}{separator}{code[4:]} "
    assert device_grants.read(typed.lower() if lower else typed) == code


@given(st.text(max_size=80))
def test_anything_else_is_none(typed: str) -> None:
    code = device_grants.read(typed)
    assert code is None or (len(code) == 8 and set(code) <= set(ALPHABET))


def test_polling_too_early_slows_down_and_stays_so() -> None:
    first = poll(GRANT, NOW + 1)
    assert first.error == "authorization_pending"
    early = poll(first.after, NOW + 1_001)
    assert (early.error, early.after.interval_s) == ("slow_down", 10)
    again = poll(early.after, NOW + 1_001 + 5_000)
    assert (again.error, again.after.interval_s) == ("slow_down", 15)
    in_time = poll(again.after, NOW + 6_001 + 15_000)
    assert (in_time.error, in_time.after.interval_s) == ("authorization_pending", 15)


def test_polling_in_time_never_does() -> None:
    grant = GRANT
    for turn in range(1, 100):
        answer = poll(grant, NOW + turn * 5_000 + (turn % 2) * 500)
        assert answer.error == "authorization_pending"
        grant = answer.after


@pytest.mark.parametrize(
    ("grant", "error"),
    [
        (replace(GRANT, state="denied"), "access_denied"),
        (APPROVED, None),
        (replace(APPROVED, state="redeemed"), "invalid_grant"),
    ],
)
def test_each_state_has_its_answer(grant: DeviceGrant, error: str | None) -> None:
    answer = poll(grant, NOW + 1)
    assert answer.error == error
    assert answer.after.polls == grant.polls + 1
    # Too early it is told to slow down, whatever was decided meanwhile.
    assert poll(replace(grant, polled_at_ms=NOW), NOW + 1).error == "slow_down"
    assert poll(grant, grant.expires_at_ms).error == "expired_token"


def test_redeemed_it_is_redeemed() -> None:
    assert poll(APPROVED, NOW + 1).after.state == "redeemed"


def test_a_name_is_keyed_and_a_code_is_taken_apart() -> None:
    key, other = device_grants.derive_key(b"m" * 32), device_grants.derive_key(b"n" * 32)
    assert device_grants.name_of("BCDFGHJK", key) != device_grants.name_of("BCDFGHJK", other)
    opened = device_grants.opened(device_grants.device_code("name", "secret"))
    assert opened is not None
    assert opened[0] == "name"
    assert device_grants.opened("name") is None
    assert device_grants.opened("n" * 300 + ".x") is None
    assert device_grants.opened("né.x") is None


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("fe80::1%eth0", "fe80::/48"),
        ("", ""),
        ("testclient", ""),
    ],
)
def test_a_place_is_a_block_of_addresses(address: str, place: str) -> None:
    assert device_grants.place_of(address) == place
