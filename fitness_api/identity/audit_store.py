"""The port to the audit log. Adapter: `audit_store_mongo`."""

from typing import Protocol

from fitness_api.identity.audit import AuditEvent


class AuditStore(Protocol):
    """What every adapter keeps to; tests/fitness_api/identity/test_audit_store_mongo.py checks each bullet.

    - An event that was appended is never changed, and goes after two years, or with the account.
    - What a method returned is durable, and seen by every later call in any process.
    - Every method raises StoreUnavailable when the database does not answer; all of them may then be called again.
    """

    async def append(self, event: AuditEvent) -> None:
        """An event whose id is there already is not appended again."""
        ...

    async def of(self, user_id: str, *, before: tuple[int, str] | None = None, limit: int) -> list[AuditEvent]:
        """Return the account's events, the newest first; `before`: (at_ms, event_id) of the last one that was shown."""
        ...
