"""The port to revocations: which sessions every process is to ask about anew, because they ended. Adapter: `revocations_redis`."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

Heard = Callable[[str, str | None], None]
"""Called with an account and a session of it, or None for all of them; it must neither wait nor raise."""


class Revocations(Protocol):
    """What every adapter keeps to; tests/fitness_api/identity/test_revocations_redis.py checks each bullet.

    - A revocation decides nothing: who hears of it asks the database. One that comes too often costs a read, one that is lost
      is found at the next check, RECHECK_MS later.
    - While `hears`, each announcement by any process is heard by every one that runs, this one included.
    - What is announced while nobody can be told is told once that is possible again, as far as it was kept.
    """

    @property
    def hears(self) -> bool:
        """Whether what other processes announce comes now, as far as is known."""
        ...

    def announce(self, user_id: str, session_id: str | None = None) -> None:
        """Tell every process, soon. Never waits and never fails: what ended has ended, whoever hears of it."""
        ...

    def running(self, heard: Heard) -> AbstractAsyncContextManager[None]: ...
