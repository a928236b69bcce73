"""The WebSockets of this process: how many there may be, what each is to be told, and until when its login lasts."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import islice
from typing import Final, NamedTuple

from fitness_api.close_codes import CloseCode
from fitness_api.errors import TooManyConnections
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.errors import StoreUnavailable
from fitness_api.identity.sessions import Sessions
from sync.hints import Hints

# Some 40 KB each, all told. A process that is to hold more is two processes.
MAX_SOCKETS: Final = 20_000
# Of one account in one process: more devices than anybody has. The oldest gives way, as it is the likeliest to be nobody's any more.
MAX_OF_ACCOUNT: Final = 32
# A hint is held back until its subscription is in place, so that nothing lands between; but not for long.
FIRST_HINT_WITHIN_S: Final = 1.0
# An ended session is announced like a change, so that this is only for announcements that were lost.
RECHECK_S: Final = 120.0
# While no announcements come. With the second between two rounds, it is within the five in which an ended session's sockets close.
RECHECK_DEAF_S: Final = 3.0
ROUNDS_EVERY_S: Final = 1.0
# A second may take so many questions, a few dozen at a time; with more sockets, and no announcements, five seconds become more.
MAX_RECHECKS: Final = 500
RECHECKS_AT_ONCE: Final = 20

_log: Final = logging.getLogger("fitness_api.live")


class Closing(NamedTuple):
    code: CloseCode
    reason: str


class LiveSocket:
    """Holds at most one hint, however many came, and the first reason to close."""

    def __init__(self, principal: Principal) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._expiry: asyncio.TimerHandle | None = None
        self._first_hint = self._loop.call_later(FIRST_HINT_WITHIN_S, self.hint)
        self.closing: Closing | None = None
        self.checked_at_s = self._loop.time()
        self.renew(principal)

    def renew(self, principal: Principal) -> None:
        """The connection lasts as long as this token."""
        self.principal = principal
        if self._expiry is not None:
            self._expiry.cancel()
        left_s = max(0.0, principal.expires_at_s - time.time())
        self._expiry = self._loop.call_later(left_s, self.end, CloseCode.NOT_AUTHORISED, "token_expired")

    def hint(self) -> None:
        self._wake.set()

    def end(self, code: CloseCode, reason: str) -> None:
        self.closing = self.closing or Closing(code, reason)
        self._wake.set()

    async def woken(self) -> None:
        """Return when there is a hint, or a reason to close."""
        await self._wake.wait()
        self._wake.clear()
        self._first_hint.cancel()

    def cancel_timers(self) -> None:
        self._first_hint.cancel()
        if self._expiry is not None:
            self._expiry.cancel()


class LiveSockets:
    def __init__(self, hints: Hints, sessions: Sessions) -> None:
        self._hints = hints
        self._sessions = sessions
        # The longest unchecked first.
        self._sockets: dict[LiveSocket, None] = {}
        self._of_account: dict[str, dict[LiveSocket, None]] = {}

    def __len__(self) -> int:
        return len(self._sockets)

    @contextmanager
    def admitted(self, principal: Principal) -> Iterator[LiveSocket]:
        """Raises TooManyConnections if the process has as many as it may."""
        if len(self._sockets) >= MAX_SOCKETS:
            raise TooManyConnections
        user_id = principal.user_id
        theirs = self._of_account.setdefault(user_id, {})
        if len(theirs) >= MAX_OF_ACCOUNT:
            oldest = next(iter(theirs))
            oldest.end(CloseCode.BEYOND_LIMITS, "too many connections of this account")
            del theirs[oldest]
        socket = LiveSocket(principal)
        self._sockets[socket] = theirs[socket] = None
        try:
            with self._hints.watch(user_id, socket.hint):
                yield socket
        finally:
            socket.cancel_timers()
            del self._sockets[socket]
            theirs.pop(socket, None)
            # One that gave way may end after all others did, and after the account's next ones came.
            if not theirs and self._of_account.get(user_id) is theirs:
                del self._of_account[user_id]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._recheck_for_ever())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def check(self, socket: LiveSocket) -> None:
        """End the socket if its session has ended. A database that does not answer ends nothing."""
        self._checked_now(socket)
        try:
            goes_on = await self._sessions.goes_on(socket.principal)
        except StoreUnavailable:
            return
        if not goes_on:
            socket.end(CloseCode.NOT_AUTHORISED, "session_ended")

    def _checked_now(self, socket: LiveSocket) -> None:
        socket.checked_at_s = asyncio.get_running_loop().time()
        if socket in self._sockets:
            del self._sockets[socket]
            self._sockets[socket] = None

    async def _recheck_for_ever(self) -> None:
        while True:
            await asyncio.sleep(ROUNDS_EVERY_S)
            try:
                await self._recheck()
            except Exception:  # noqa: BLE001
                # Every other socket, and every later check, must not depend on what one of them brought up.
                _log.exception("Sessions of live connections could not be checked.")

    async def _recheck(self) -> None:
        older_than_s = RECHECK_S if self._hints.hears else RECHECK_DEAF_S
        due_s = asyncio.get_running_loop().time() - older_than_s
        due = [one for one in islice(self._sockets, MAX_RECHECKS) if one.checked_at_s <= due_s]
        for start in range(0, len(due), RECHECKS_AT_ONCE):
            await asyncio.gather(*map(self.check, due[start : start + RECHECKS_AT_ONCE]))
