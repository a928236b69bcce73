from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity.key_ring import KeyRing
from fitness_api.identity.passwords import Passwords
from fitness_api.identity.sessions import Sessions
from fitness_api.identity.store_mongo import MongoStore

ISSUER = "http://api.test"
MASTER_KEY = b"m" * 32


class Clock:
    """The time as the test sets it."""

    def __init__(self) -> None:
        # Ahead of the wall clock, so that the database's own sweep finds nothing that has expired.
        self.now_ms = 4_000_000_000_000

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, *, s: float) -> None:
        self.now_ms += int(s * 1000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: AsyncDatabase[dict[str, Any]]) -> MongoStore:
    return MongoStore(database)


@pytest.fixture(scope="session")
def passwords() -> Iterator[Passwords]:
    passwords = Passwords(hashers=2)
    yield passwords
    passwords.close()


@pytest.fixture
def process(store: MongoStore, passwords: Passwords, clock: Clock) -> Callable[[], Sessions]:
    """Makes what one process of many would have: nothing is shared but the database and the master key."""

    def made() -> Sessions:
        keys = KeyRing(store, MASTER_KEY, now_ms=clock)
        return Sessions(store, passwords, keys, issuer=ISSUER, master_key=MASTER_KEY, now_ms=clock)

    return made


@pytest.fixture
def sessions(process: Callable[[], Sessions]) -> Sessions:
    return process()
