"""Sends what waits in the outbox: every gateway a little at a time.

    deliver = Delivery(outbox, sender, compose)
    async with deliver.running(): …

What a gateway puts there leaves at once (`wake`); what another one left behind, within POLL_EVERY_S. Taken under a lease, it is
sent by one gateway, and by another one only if that dies; the lease then ends, and in the worst case a letter comes twice under
one message id.
"""

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from fitness_api.mail.errors import MailDeferred, MailRefused, OutboxUnavailable
from fitness_api.mail.letter import Letter
from fitness_api.mail.outbox import Outbox, Outgoing
from fitness_api.mail.sender import Sender

# Few connections to one server: it takes thousands of letters an hour over one.
AT_ONCE: Final = 4
# Twice what a letter may take.
LEASE_MS: Final = 60_000
# How long mail waits whose gateway died with it, and what an idle gateway costs the database.
POLL_EVERY_S: Final = 5.0
# What is being sent when a gateway stops mostly ends within it; the gateway itself has 20 s.
STOP_WITHIN_S: Final = 5.0

# 30 s, doubled each time up to a quarter of an hour: a restart of the mail server is not noticed, and who waits for a link does not
# wait much longer than the outage. 100 tries take a day.
FIRST_PAUSE_MS: Final = 30_000
LONGEST_PAUSE_MS: Final = 900_000
MAX_TRIES: Final = 100

_log = logging.getLogger("fitness_api.mail")

# What is outgoing, as a letter; None if there is nothing (any more) to say or nobody to say it to. Raises MailDeferred.
Compose = Callable[[Outgoing], Awaitable[Letter | None]]


def pause_ms(tries: int, dice: float) -> int:
    """Return how long to wait after so many tries; `dice`, from 0 to 1, spreads what failed together."""
    longest = min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** min(tries - 1, 20))
    return int(longest * (0.5 + dice))


def message_id(outgoing: Outgoing) -> str:
    """The same however often it is tried; tells nothing of the recipient."""
    return hashlib.sha256(f"{outgoing.mail_id}/{outgoing.created_at_ms}".encode()).hexdigest()[:32]


class Delivery:
    def __init__(
        self,
        outbox: Outbox,
        sender: Sender,
        compose: Compose,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._sender = sender
        self._compose = compose
        self._now_ms = now_ms
        self._dice = dice
        self._woken = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """Look now: something was put there."""
        self._woken.set()

    async def deliver_due(self) -> int:
        """Try what is due once, AT_ONCE at most, and return how many that were. Raises OutboxUnavailable."""
        now_ms = self._now_ms()
        taken = await self._outbox.take(limit=AT_ONCE, now_ms=now_ms, until_ms=now_ms + LEASE_MS)
        for outcome in await asyncio.gather(*map(self._deliver, taken), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        return len(taken)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._stopping = True
            self._woken.set()
            _, late = await asyncio.wait({task}, timeout=STOP_WITHIN_S)
            for overdue in late:
                overdue.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while not self._stopping:
            self._woken.clear()
            try:
                while await self.deliver_due() and not self._stopping:
                    pass
            except OutboxUnavailable:
                pass  # As the requests of that moment say; the next round finds everything where it was.
            except Exception:  # noqa: BLE001
                # Mail is not to end with one thing that nobody foresaw: it is logged, and tried again in a while.
                _log.exception("mail delivery failed")
            try:
                async with asyncio.timeout(POLL_EVERY_S * (0.5 + self._dice())):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def _deliver(self, outgoing: Outgoing) -> None:
        try:
            letter = await self._compose(outgoing)
            if letter is not None:
                await self._sender.send(letter, message_id=message_id(outgoing))
        except MailRefused as refused:
            _log.warning("mail refused: %s", refused, extra=_fields(outgoing))
        except MailDeferred as deferred:
            await self._defer(outgoing, str(deferred))
            return
        except Exception:  # noqa: BLE001
            # One that cannot be written must hold up no other. It comes again until its tries are over.
            _log.exception("mail failed", extra=_fields(outgoing))
            await self._defer(outgoing, "failed")
            return
        await self._outbox.done(outgoing)

    async def _defer(self, outgoing: Outgoing, reason: str) -> None:
        if outgoing.tries >= MAX_TRIES:
            _log.error("mail given up after %d tries: %s", outgoing.tries, reason, extra=_fields(outgoing))
            await self._outbox.done(outgoing)
            return
        _log.warning("mail deferred: %s", reason, extra=_fields(outgoing))
        await self._outbox.defer(outgoing, due_at_ms=self._now_ms() + pause_ms(outgoing.tries, self._dice()))


def _fields(outgoing: Outgoing) -> dict[str, dict[str, str | int]]:
    return {"fields": {"mail": outgoing.kind, "tries": outgoing.tries}}
