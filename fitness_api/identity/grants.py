"""Granting an account what no user has by himself, and withdrawing it."""

from msgspec.structs import replace

from fitness_api.identity import accounts
from fitness_api.identity.audit import Kind, Origin
from fitness_api.identity.audit_log import AuditLog
from fitness_api.identity.scopes import SERVICE_SCOPES
from fitness_api.identity.store import Store


async def set_service_scopes(store: Store, audit: AuditLog, email: str, *, are_granted: bool) -> str | None:
    """Return the account's id; None: nobody has that address. Raises InvalidBody if it cannot be one, or StoreUnavailable.

    Tokens have what was granted from the next login or refresh on. One that has what was withdrawn holds no more, at the next
    check of its session.
    """
    known = await store.credentials(accounts.normalised_address(email))
    if known is None:
        return None
    scopes = SERVICE_SCOPES if are_granted else ()
    if await store.update_account(known.user_id, lambda account: replace(account, granted_scopes=scopes)) is None:
        return None
    kind: Kind = "service_scopes_granted" if are_granted else "service_scopes_withdrawn"
    await audit.record(known.user_id, kind, origin=Origin("", "fitness-api admin"))
    return known.user_id
