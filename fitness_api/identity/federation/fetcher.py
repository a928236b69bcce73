"""The port to what issuers publish. Adapter: `fetcher_httpx2`."""

from typing import Protocol


class Fetcher(Protocol):
    """What every adapter keeps to; tests/fitness_api/identity/federation/test_fetcher_httpx2.py checks each bullet.

    - An answer that is not 200, a redirect among them, is none.
    - Neither a large answer nor a slow one is waited for.
    - Where there is no sensible answer, FetchFailed says why.
    """

    async def get(self, url: str) -> bytes:
        """Raises FetchFailed."""
        ...


class FetchFailed(Exception):
    """There is no answer that could be used; the message is for the log."""
