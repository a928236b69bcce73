"""Knowing a device again after a login that was completed by more than a password."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import HTTPConnection

from fitness_api.identity.accounts import counted_as


async def remembered(connection: HTTPConnection[Any], user_id: str) -> Mapping[str, str]:
    """Return the header by which this device is known to have logged in to the account before, where limits make a difference."""
    account = await connection.state["accounts"].account(user_id)
    found: Mapping[str, str] = {}
    if account is not None:
        found = connection.state["limits"].remember(counted_as(account.email))
    return found
