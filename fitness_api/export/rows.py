"""The port to what stands in tables. Adapter: `rows_mongo`."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

from fitness_api.export.tables import Table


class Rows(Protocol):
    """What every adapter keeps to; tests/fitness_api/export/test_rows_mongo.py checks each bullet.

    - Rows are this account's only, and have the shown fields that they hold, under their shown names, and no others.
    - Values are what JSON has: instants as RFC 3339 text in UTC with milliseconds, bytes as base64url.
    - Raises sync.errors.StoreUnavailable when the database does not answer.
    """

    def of(self, user_id: str, table: Table) -> AsyncIterator[dict[str, Any]]:
        """Give the rows in any order."""
        ...
