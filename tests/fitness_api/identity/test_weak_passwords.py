import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from fitness_api.identity.accounts import MIN_PASSWORD
from fitness_api.identity.weak_passwords import common, fault


def test_the_three_thousand_commonest_that_are_long_enough_are_refused() -> None:
    longer = [word for word in FREQUENCY_LISTS["passwords"] if len(word) >= MIN_PASSWORD]
    assert len(longer) > 3_000
    assert [word for word in longer[:3_000] if fault(word) is None] == []
    assert len(common()) > 40_000


@pytest.mark.parametrize(
    "password",
    [
        "password",
        "PassWord",
        "football",
        "iloveyou1",
        "qwertyuiop",
        "password123",
        "12345678",
        "87654321",
        "1234567890",
        "0987654321",
        "abcdefgh",
        "00000000",
        "12341234",
        "abcabcabca",
    ],
)
def test_what_is_guessed_first_is_refused(password: str) -> None:
    assert fault(password) is not None


@pytest.mark.parametrize(
    "password", ["correct horse", "correct horse battery staple", "Tr0ub4dor&3x", "übermütiger Dachs", "1234abcd9876"]
)
def test_others_are_taken(password: str) -> None:
    assert fault(password, own=("ada@example.org", "Ada Lovelace")) is None


@pytest.mark.parametrize(
    "password",
    [
        "ada.lovelace@example.org",
        "Ada.Lovelace",
        "ada.lovelace1815",
        "Ada Lovelace",
        "adalovelace!!",
        "example.org",
        "example2026",
    ],
)
def test_the_accounts_own_words_are_refused(password: str) -> None:
    assert fault(password, own=("ada.lovelace@example.org", "Ada Lovelace")) is not None


def test_a_short_word_of_the_account_says_nothing() -> None:
    assert fault("al1234567890!x", own=("al@example.org",)) is None


@given(st.text(string.ascii_letters + string.digits, min_size=1, max_size=4), st.integers(2, 40))
def test_repetitions_are_refused(unit: str, times: int) -> None:
    if len(unit) * times >= MIN_PASSWORD:
        assert fault(unit * times) is not None


@given(st.text(max_size=256), st.lists(st.text(max_size=40), max_size=3))
def test_any_text_gets_an_answer(password: str, own: list[str]) -> None:
    assert fault(password, own=own) == fault(password.casefold(), own=own)
