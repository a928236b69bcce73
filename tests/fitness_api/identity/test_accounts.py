import unicodedata
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.errors import InvalidBody
from fitness_api.identity import accounts
from fitness_api.identity.accounts import Account

TODAY = date(2026, 5, 1)
ACCOUNT = Account(user_id="u", email="ada@example.org", created_at_ms=0)


def pointers(error: pytest.ExceptionInfo[InvalidBody]) -> list[str]:
    return [wrong.pointer for wrong in error.value.errors]


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("ada@example.org", "ada@example.org"),
        ("  Ada.Lovelace+app@EXAMPLE.org\n", "ada.lovelace+app@example.org"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@XN--BCHER-KVA.example", "ada@xn--bcher-kva.example"),
        ("ada@bu\u0308cher.example", "ada@xn--bcher-kva.example"),
        ("re\u0301ne\u0301@example.org", "réné@example.org"),
        ("RÉNÉ@example.org", "réné@example.org"),
        ("ada@例え。jp", "ada@xn--r8jz45g.jp"),
        ('"o\'brien"@example.org', '"o\'brien"@example.org'),
    ],
)
def test_what_is_one_mailbox_is_one_address(typed: str, address: str) -> None:
    assert accounts.normalised_address(typed) == address


def test_sharp_s_and_two_s_are_two_mailboxes() -> None:
    assert accounts.normalised_address("groß@example.org") != accounts.normalised_address("gross@example.org")


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "@",
        "ada",
        "ada@",
        "@example.org",
        "ada@localhost",
        "ada@example.",
        "ada@.org",
        "ada@exa mple.org",
        "a da@example.org",
        "ada@bob@example.org",
        "ada\x00@example.org",
        "ada\r\nBcc: eve@example.org",
        "ada@exa_mple.org",
        "ada@[127.0.0.1]",
        "a" * 65 + "@example.org",
        "é" * 33 + "@example.org",
        "ada@" + "a" * 64 + ".org",
        "ada@" + ".".join(["a" * 60] * 5),
        "\ud800@example.org",
        "ada@\ud800.org",
    ],
)
def test_what_cannot_be_an_address_is_refused(typed: str) -> None:
    with pytest.raises(InvalidBody) as error:
        accounts.normalised_address(typed)
    assert pointers(error) == ["/email"]


@given(
    st.text(max_size=300)
    | st.builds("{}@{}.example".format, st.text(min_size=1, max_size=9), st.text("aäßİ", max_size=5))
)
def test_normalising_twice_is_normalising_once(typed: str) -> None:
    try:
        address = accounts.normalised_address(typed)
    except InvalidBody:
        return
    assert accounts.normalised_address(address) == address
    local, _, domain = address.rpartition("@")
    assert accounts.normalised_address(f" {local}@{domain.upper()} ") == address


def test_passwords_are_counted_in_composed_code_points() -> None:
    assert accounts.normalised_password("passwort") == "passwort"
    assert accounts.normalised_password("e\u0301" * 8) == "é" * 8
    assert accounts.normalised_password("💪" * 256) == "💪" * 256
    assert accounts.normalised_password("  spaces count  ") == "  spaces count  "
    for bad in ("1234567", "e\u0301" * 7, "a" * 257, "\ud800" * 8):
        with pytest.raises(InvalidBody) as error:
            accounts.normalised_password(bad)
        assert pointers(error) == ["/password"]


@pytest.mark.parametrize(
    "change",
    [
        {"display_name": "Ada 💪\u200d"},
        {"timezone": "Europe/Berlin"},
        {"timezone": "America/Argentina/Buenos_Aires"},
        {"timezone": "UTC"},
        {"locale": "de"},
        {"locale": "pt-BR"},
        {"locale": "zh-Hant-TW"},
        {"locale": "es-419"},
        {"locale": "de-CH-1996"},
        {"hr_max_bpm": 80},
        {"hr_max_bpm": 250, "hr_rest_bpm": 20},
        {"birth_year": 1900},
        {"birth_year": 2026},
        {"sex": "female", "units": "imperial"},
    ],
)
def test_a_profile_takes(change: dict[str, object]) -> None:
    after = accounts.changed(ACCOUNT, change, today=TODAY)
    assert {name: getattr(after, name) for name in change} == change
    cleared = accounts.changed(after, dict.fromkeys(change), today=TODAY)
    assert cleared == ACCOUNT


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"display_name": " "}, ["/display_name"]),
        ({"display_name": "a" * 101}, ["/display_name"]),
        ({"display_name": "a\x07b"}, ["/display_name"]),
        ({"timezone": "Mars/Olympus"}, ["/timezone"]),
        ({"timezone": "europe/berlin"}, ["/timezone"]),
        ({"timezone": "../../etc/passwd"}, ["/timezone"]),
        ({"timezone": "posix/UTC"}, ["/timezone"]),
        ({"locale": "de_DE"}, ["/locale"]),
        ({"locale": "german-language"}, ["/locale"]),
        ({"locale": "de\n"}, ["/locale"]),
        ({"hr_max_bpm": 251}, ["/hr_max_bpm"]),
        ({"hr_rest_bpm": 19}, ["/hr_rest_bpm"]),
        ({"hr_rest_bpm": 120, "hr_max_bpm": 110}, ["/hr_rest_bpm", "/hr_max_bpm"]),
        ({"birth_year": 2027}, ["/birth_year"]),
        ({"birth_year": 1899, "timezone": "Nowhere"}, ["/timezone", "/birth_year"]),
    ],
)
def test_a_profile_refuses_and_names_each_field(change: dict[str, object], wrong: list[str]) -> None:
    with pytest.raises(InvalidBody) as error:
        accounts.changed(ACCOUNT, change, today=TODAY)
    assert pointers(error) == wrong


def test_a_resting_rate_is_held_against_the_stored_greatest_one() -> None:
    account = accounts.changed(ACCOUNT, {"hr_max_bpm": 100}, today=TODAY)
    with pytest.raises(InvalidBody) as error:
        accounts.changed(account, {"hr_rest_bpm": 100}, today=TODAY)
    assert pointers(error) == ["/hr_rest_bpm"]


def test_names_are_trimmed_and_composed() -> None:
    after = accounts.changed(ACCOUNT, {"display_name": "  Rene\u0301 "}, today=TODAY)
    assert after.display_name == unicodedata.normalize("NFC", "René")


def test_heart_rates_are_dated_and_the_day_s_last_counts() -> None:
    account = accounts.changed(ACCOUNT, {"hr_max_bpm": 190}, today=TODAY)
    account = accounts.changed(account, {"hr_max_bpm": 188, "hr_rest_bpm": 50}, today=TODAY)
    account = accounts.changed(account, {"display_name": "Ada"}, today=TODAY + timedelta(days=1))
    account = accounts.changed(account, {"hr_rest_bpm": None}, today=TODAY + timedelta(days=2))
    assert account.heart_rates == (("2026-05-01", 188, 50), ("2026-05-03", 188, None))
    for day in range(accounts.MAX_HEART_RATES + 5):
        account = accounts.changed(account, {"hr_rest_bpm": 40 + day % 2}, today=TODAY + timedelta(days=10 + day))
    assert len(account.heart_rates) == accounts.MAX_HEART_RATES
