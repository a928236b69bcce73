"""An account as its owner sees it, and what an address, a password and a profile may be."""

import re
import unicodedata
from datetime import date
from functools import cache
from typing import Any, Final, Literal
from zoneinfo import available_timezones

import idna
from msgspec import Struct
from msgspec.structs import replace

from fitness_api.errors import Invalid, InvalidBody

MAX_EMAIL: Final = 254  # RFC 5321 section 4.5.3.1.3: a path of 256 octets, less its angle brackets
MAX_LOCAL_PART_BYTES: Final = 64  # RFC 5321 section 4.5.3.1.1

# NIST SP 800-63B-4 asks for 15 where a password stands alone and for 8 beside a second factor. The app's choice is 8:
# accounts are protected by throttling as well, may add a second factor, and a person on a watch types 15 badly.
MIN_PASSWORD: Final = 8
MAX_PASSWORD: Final = 256  # room for passphrases; bounds what is normalised and hashed

MAX_DISPLAY_NAME: Final = 100

# Beyond these lies a typing error: the highest pulse measured in adults is some 220, the lowest at rest some 26.
HR_MAX_BPM: Final = (80, 250)
HR_REST_BPM: Final = (20, 150)
MAX_HEART_RATES: Final = 200  # a test a month for fifteen years
MIN_BIRTH_YEAR: Final = 1900
MIN_AGE: Final = 0  # how old a user must be is the app's and the country's law, not the shape of the data

# RFC 5646 section 2.1 as apps send it: language, script, region, variants. Extensions are not for us.
_LOCALE: Final = re.compile(
    r"[A-Za-z]{2,3}(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|[0-9]{3}))?(?:-(?:[A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3})){0,3}"
)

Units = Literal["metric", "imperial"]
Sex = Literal["female", "male", "other"]


class Account(Struct, frozen=True, kw_only=True):
    """`email` is the address as it was typed; mail goes there. `version` counts the changes, `granted_scopes` are beyond a user's.

    heart_rates: (day from which on it holds, maximum, resting), the present one last: earlier workouts keep their zones.
    """

    user_id: str
    email: str
    email_verified: bool = False
    created_at_ms: int
    version: int = 0
    display_name: str | None = None
    timezone: str | None = None
    locale: str | None = None
    units: Units | None = None
    hr_max_bpm: int | None = None
    hr_rest_bpm: int | None = None
    sex: Sex | None = None
    birth_year: int | None = None
    granted_scopes: tuple[str, ...] = ()
    heart_rates: tuple[tuple[str, int | None, int | None], ...] = ()


def tidy(text: str) -> str:
    """Return the text trimmed and in NFC, so that what looks the same is the same."""
    return unicodedata.normalize("NFC", text.strip())


def normalised_address(email: str) -> str:
    """Return the form by which addresses are compared: NFC, lower case, the domain in its ASCII form.

    Raises InvalidBody if it cannot be an address. Lower case rather than case folding: folding makes one of
    addresses that are two mailboxes (ß and ss).
    """
    address = tidy(email)
    if not 3 <= len(address) <= MAX_EMAIL:
        raise _invalid("email", f"An address has 3 to {MAX_EMAIL} characters.")
    local, at, domain = address.rpartition("@")
    if not local or not at or "@" in local or not _printable(local) or any(c.isspace() for c in local):
        raise _invalid("email", "This is not an address.")
    # Once more in NFC: lower case can leave a letter and its mark apart.
    local = unicodedata.normalize("NFC", local.lower())
    try:
        domain = idna.encode(domain, uts46=True).decode("ascii").lower()
        size = len(local.encode())
    except (idna.IDNAError, UnicodeError):
        raise _invalid("email", "This is not an address: its domain cannot be.") from None
    if "." not in domain.strip(".") or domain.endswith(".") or size > MAX_LOCAL_PART_BYTES:
        raise _invalid("email", "This is not an address.")
    return f"{local}@{domain}"


def counted_as(email: str) -> str:
    """Return what tries at an address are counted by: one name for all its spellings; what cannot be an address, as it is.

    A domain alone can be written in thousands of ways, each of which would else have tries of its own.
    """
    try:
        return normalised_address(email)
    except InvalidBody:
        return email


def normalised_password(password: str) -> str:
    """Return the password in NFC: one keyboard composes é, another does not.

    Raises InvalidBody if it is too short or too long, in code points.
    """
    normal = unicodedata.normalize("NFC", password)
    if not MIN_PASSWORD <= len(normal) <= MAX_PASSWORD:
        raise _invalid("password", f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} characters.")
    if not _encodable(normal):
        raise _invalid("password", "This is not text.")
    return normal


def changed(account: Account, changes: dict[str, Any], *, today: date) -> Account:
    """Return the account with these profile fields changed; None clears one.

    Raises InvalidBody naming every field that cannot be so.
    """
    if (name := changes.get("display_name")) is not None:
        changes = {**changes, "display_name": tidy(name)}
    after = replace(account, **changes)
    wrong = [Invalid(f"/{field}", detail) for field, detail in _wrong(after, today.year) if field in changes]
    if wrong:
        raise InvalidBody(*wrong)
    return _with_heart_rates(account, after, today)


def _with_heart_rates(before: Account, after: Account, today: date) -> Account:
    present = (after.hr_max_bpm, after.hr_rest_bpm)
    if present == (before.hr_max_bpm, before.hr_rest_bpm):
        return after
    kept = [entry for entry in before.heart_rates if entry[0] != today.isoformat()]
    if not kept and present == (None, None):
        return replace(after, heart_rates=())
    return replace(after, heart_rates=(*kept[-(MAX_HEART_RATES - 1) :], (today.isoformat(), *present)))


def _wrong(account: Account, now_year: int) -> list[tuple[str, str]]:
    wrong: list[tuple[str, str]] = []
    name = account.display_name
    if name is not None and not (1 <= len(name) <= MAX_DISPLAY_NAME and _printable(name)):
        wrong.append(
            ("display_name", f"A name has 1 to {MAX_DISPLAY_NAME} characters, none of them control characters.")
        )
    if account.timezone is not None and account.timezone not in _timezones():
        wrong.append(("timezone", "This is not an IANA time zone, such as Europe/Berlin."))
    if account.locale is not None and not _LOCALE.fullmatch(account.locale):
        wrong.append(("locale", "This is not a BCP 47 language tag, such as pt-BR."))
    for field, value, (low, high) in (
        ("hr_max_bpm", account.hr_max_bpm, HR_MAX_BPM),
        ("hr_rest_bpm", account.hr_rest_bpm, HR_REST_BPM),
        ("birth_year", account.birth_year, (MIN_BIRTH_YEAR, now_year - MIN_AGE)),
    ):
        if value is not None and not low <= value <= high:
            wrong.append((field, f"This is a number from {low} to {high}."))
    if account.hr_max_bpm is not None and account.hr_rest_bpm is not None and account.hr_rest_bpm >= account.hr_max_bpm:
        detail = "The resting heart rate is below the greatest one."
        wrong.extend([("hr_rest_bpm", detail), ("hr_max_bpm", detail)])
    return wrong


@cache
def _timezones() -> frozenset[str]:
    return frozenset(available_timezones())


def _printable(text: str) -> bool:
    """No control characters (Cc), no lone surrogates (Cs); joiners, which names and emoji need, are Cf."""
    return all(unicodedata.category(character) not in {"Cc", "Cs"} for character in text)


def _encodable(text: str) -> bool:
    return all(unicodedata.category(character) != "Cs" for character in text)


def _invalid(field: str, detail: str) -> InvalidBody:
    return InvalidBody(Invalid(f"/{field}", detail))
