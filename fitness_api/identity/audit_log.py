"""Recording what happened to an account's security."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final
from uuid import NAMESPACE_OID, uuid4, uuid5

from fitness_api.identity.audit import AuditEvent, Kind, Origin
from fitness_api.identity.audit_store import AuditStore
from fitness_api.identity.errors import StoreUnavailable
from fitness_api.identity.key_ring import wall_clock_ms

# What anybody may make happen to an account is told once in so long: it may be tried a thousand times.
NOTED_EVERY_MS: Final = 600_000
MAX_USER_AGENT: Final = 200  # what a person needs to recognise a browser
MAX_NOTED: Final = 1_000  # that wait in one process; beyond it the oldest are forgotten


async def nobody_told(_: AuditEvent) -> None:
    pass


class AuditLog:
    """on_event: told of each event once it is recorded. Raises StoreUnavailable where it could not be."""

    def __init__(
        self,
        store: AuditStore,
        *,
        on_event: Callable[[AuditEvent], Awaitable[None]] = nobody_told,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._store = store
        self._on_event = on_event
        self._now_ms = now_ms
        self._noted: deque[AuditEvent] = deque(maxlen=MAX_NOTED)
        self._is_noted = asyncio.Event()

    async def record(
        self,
        user_id: str,
        kind: Kind,
        *,
        origin: Origin,
        session_id: str | None = None,
        details: Mapping[str, str] | None = None,
    ) -> None:
        """Raises StoreUnavailable: what cannot be recorded has failed, and is asked for again."""
        event = AuditEvent(
            event_id=str(uuid4()),
            user_id=user_id,
            at_ms=self._now_ms(),
            kind=kind,
            origin=_bounded(origin),
            session_id=session_id,
            details=details or {},
        )
        await self._store.append(event)
        await self._on_event(event)

    def note(self, user_id: str, kind: Kind, *, origin: Origin) -> None:
        """Record it when there is time, once in NOTED_EVERY_MS: the caller's answer waits for nothing that tells who is known."""
        at_ms = self._now_ms()
        self._noted.append(
            AuditEvent(
                event_id=str(uuid5(NAMESPACE_OID, f"{kind}/{at_ms // NOTED_EVERY_MS}")),
                user_id=user_id,
                at_ms=at_ms,
                kind=kind,
                origin=_bounded(origin),
            )
        )
        self._is_noted.set()

    async def record_noted(self) -> None:
        """What cannot be recorded now is left for later."""
        while self._noted:
            event = self._noted.popleft()
            try:
                await self._store.append(event)
            except StoreUnavailable:
                self._noted.appendleft(event)
                raise

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Records what is noted, as long as it lasts; what is left at the end, if the database answers."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            with suppress(StoreUnavailable):
                await self.record_noted()

    async def _run(self) -> None:
        while True:
            await self._is_noted.wait()
            self._is_noted.clear()
            try:
                await self.record_noted()
            except StoreUnavailable as error:
                await asyncio.sleep(error.retry_after_s)
                self._is_noted.set()

    async def of(self, user_id: str, *, before: tuple[int, str] | None = None, limit: int) -> list[AuditEvent]:
        """The newest first."""
        return await self._store.of(user_id, before=before, limit=limit)


def _bounded(origin: Origin) -> Origin:
    return Origin(origin.address, origin.user_agent[:MAX_USER_AGENT])
