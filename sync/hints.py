"""The port to hints: who should sync now, because something new landed in their account. Adapter: `hints_redis`."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class Hints(Protocol):
    """What every adapter keeps to; tests/sync/test_hints_redis.py checks each bullet.

    - A hint says nothing but "sync now". One that comes too often costs a round trip, one that is lost costs until the next sync.
    - While an account is watched, each announcement of it, by any process, leads to a call of `notify`; several may lead to one.
    - Whenever hints may have been missed (the watch was not in place yet, or the way between the processes was cut), `notify` is called
      once they can come again. So a watcher that syncs at each call misses nothing.
    """

    @property
    def hears(self) -> bool:
        """Whether what other processes announce comes now, as far as is known."""
        ...

    def announce(self, user_id: str) -> None:
        """Tell every process, soon. Never waits and never fails: what is written is written, whoever hears of it."""
        ...

    def watch(self, user_id: str, notify: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `notify`, which must neither wait nor raise, until the context ends."""
        ...
