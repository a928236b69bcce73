"""Accounts as they were read last, for `GET /v1/me`: what an app asks at each start, and seldom changes.

A change is forgotten here at once and in every other process as soon as Redis carries the word there, some milliseconds; what is
remembered is used for FRESH_MS at most, so that a word that is lost costs no more. While no word can come, nothing is remembered.
"""

import time
from collections.abc import Callable
from typing import Final

from fitness_api.bodies import Format
from fitness_api.identity.accounts import Account
from fitness_api.identity.remembered import Remembered
from fitness_api.identity.sessions import RECHECK_MS
from fitness_api.identity.store import Store

# As long as an ended session may go unnoticed where Redis is away.
FRESH_MS: Final = RECHECK_MS
# Some 2 KB each: as many accounts as ask one process within FRESH_MS on a very busy day.
MAX_REMEMBERED: Final = 10_000


class Known:
    """bodies: what it was encoded to, and the entity tag, by format."""

    def __init__(self, account: Account, at_ms: int) -> None:
        self.account = account
        self.at_ms = at_ms
        self.bodies: dict[Format, tuple[bytes, str]] = {}


class Profiles:
    """announce: tells all processes to `forget` what they know of an account. hears: whether their words come here now."""

    def __init__(
        self,
        accounts: Store,
        *,
        announce: Callable[[str], None],
        hears: Callable[[], bool],
        now_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
    ) -> None:
        self._accounts = accounts
        self._announce = announce
        self._hears = hears
        self._now_ms = now_ms
        self._known: Remembered[str, Known] = Remembered(MAX_REMEMBERED)
        self._forgotten = 0

    async def of(self, user_id: str) -> Known | None:
        """Return None if there is no such account, or not any more."""
        known = self._known.get(user_id)
        now_ms = self._now_ms()
        if known is not None and now_ms - known.at_ms < FRESH_MS and self._hears():
            return known
        forgotten = self._forgotten
        account = await self._accounts.account(user_id)
        if account is None:
            self._known.forget(user_id)
            return None
        known = Known(account, now_ms)
        # What was read before a change was heard of may be of before the change.
        if forgotten == self._forgotten:
            self._known.put(user_id, known)
        return known

    def changed(self, user_id: str) -> None:
        """To be called after the account was written."""
        self.forget(user_id)
        self._announce(user_id)

    def heard(self, user_id: str, session_id: str | None) -> None:
        """What processes tell one another: the end of a single session changes no profile."""
        if session_id is None:
            self.forget(user_id)

    def forget(self, user_id: str) -> None:
        self._forgotten += 1
        self._known.forget(user_id)
