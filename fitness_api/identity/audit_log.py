"""Recording what happened to an account's security."""

from collections.abc import Callable, Mapping
from uuid import uuid4

from fitness_api.identity.audit import AuditEvent, Kind, Origin
from fitness_api.identity.audit_store import AuditStore
from fitness_api.identity.key_ring import wall_clock_ms


class AuditLog:
    def __init__(self, store: AuditStore, *, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self._store = store
        self._now_ms = now_ms

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
            origin=origin,
            session_id=session_id,
            details=details or {},
        )
        await self._store.append(event)

    async def of(self, user_id: str, *, before: tuple[int, str] | None = None, limit: int) -> list[AuditEvent]:
        """The newest first."""
        return await self._store.of(user_id, before=before, limit=limit)
