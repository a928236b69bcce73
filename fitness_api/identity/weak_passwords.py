"""Passwords that are guessed first: common ones, dictionary words, runs, and what stands in the account itself.

The lists are those that ship with zxcvbn (MIT): 30,000 passwords by how often they leaked, and the commonest words and names.
Of these some 41,000 are long enough to be passwords here, the 3,000 commonest leaked ones among them, as ASVS 5.0 6.2.4 asks.
Source: NIST SP 800-63B-4 section 3.1.1.2: common, dictionary, repetitive or sequential, and the service's and user's own words.
"""

import itertools
import string
from collections.abc import Iterable
from functools import cache
from typing import Final

from fitness_api.identity.accounts import MIN_PASSWORD
from fitness_api.identity.errors import WeakPassword

MAX_REPEATED: Final = 4  # characters of a unit: 12341234, abababab, 00000000
MIN_OWN_WORD: Final = 3  # a shorter one stands in many a good password by chance

_AROUND: Final = string.digits + string.punctuation + string.whitespace


@cache
def common() -> frozenset[str]:
    """Lower-case. The first call reads the lists, for 0.1 s."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # noqa: PLC0415  a megabyte that few processes need

    return frozenset(word for words in FREQUENCY_LISTS.values() for word in words if len(word) >= MIN_PASSWORD)


def fault(password: str, *, own: Iterable[str] = ()) -> str | None:
    """Return what is wrong with it, or None. `own`: the account's address and name, in whose place a guesser tries them first."""
    plain = password.casefold()
    if plain in common():
        return "This password is among those that are guessed first."
    if _is_repeated(plain) or _is_run(plain):
        return "This password is a run or a repetition, which is guessed first."
    bare = plain.strip(_AROUND)
    if bare in _own_words(own):
        return "This password is the address or the name of the account."
    return None


def require_strong(password: str, *, email: str, display_name: str | None) -> None:
    """Raises WeakPassword."""
    found = fault(password, own=(email, display_name or ""))
    if found is not None:
        raise WeakPassword(found)


def _is_repeated(plain: str) -> bool:
    return any(
        plain == (plain[:size] * (len(plain) // size + 1))[: len(plain)]
        for size in range(1, MAX_REPEATED + 1)
        if size < len(plain)
    )


def _is_run(plain: str) -> bool:
    """12345678, 87654321, abcdefgh; after 9 comes 0."""
    steps = {
        (ord(after) - ord(before)) if (before, after) not in {("9", "0"), ("0", "9")} else (1 if before == "9" else -1)
        for before, after in itertools.pairwise(plain)
    }
    return len(steps) == 1 and steps <= {1, -1}


def _own_words(own: Iterable[str]) -> set[str]:
    words: set[str] = set()
    for text in own:
        plain = text.casefold().strip()
        local, _, domain = plain.partition("@")
        words |= {plain, local, domain, domain.partition(".")[0], "".join(plain.split())}
        words |= {word.strip(_AROUND) for word in words}
    return {word for word in words if len(word) >= MIN_OWN_WORD}
