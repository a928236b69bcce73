from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity.audit import Origin
from fitness_api.identity.audit_log import AuditLog
from fitness_api.identity.audit_store_mongo import MongoAuditStore
from fitness_api.identity.key_ring import KeyRing
from fitness_api.identity.logins import Logins, no_second_factors
from fitness_api.identity.passwords import Passwords
from fitness_api.identity.sessions import Sessions, TokenPair
from fitness_api.identity.single_use_mongo import MongoSingleUse
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


class Process(Sessions):
    """The sessions and logins of one process of many: nothing is shared but the database and the master key."""

    def __init__(
        self,
        database: AsyncDatabase[dict[str, Any]],
        passwords: Passwords,
        clock: Clock,
        *,
        store: MongoStore | None = None,
    ) -> None:
        store = store or MongoStore(database)
        keys = KeyRing(store, MASTER_KEY, now_ms=clock)
        self.audit = AuditLog(MongoAuditStore(database), now_ms=clock)
        super().__init__(store, keys, self.audit, issuer=ISSUER, master_key=MASTER_KEY, now_ms=clock)
        self.logins = Logins(
            store,
            passwords,
            self,
            MongoSingleUse(database),
            self.audit,
            second_factors=no_second_factors,
            now_ms=clock,
        )

    async def register(
        self, *, email: str, password: str, display_name: str | None = None, user_agent: str = ""
    ) -> TokenPair:
        origin = Origin("", user_agent)
        return await self.logins.register(email=email, password=password, display_name=display_name, origin=origin)

    async def login(self, *, email: str, password: str) -> TokenPair:
        return await self.logins.login(email=email, password=password, origin=Origin())


@pytest.fixture
def process(database: AsyncDatabase[dict[str, Any]], passwords: Passwords, clock: Clock) -> Callable[[], Process]:
    return lambda: Process(database, passwords, clock)


@pytest.fixture
def sessions(process: Callable[[], Process]) -> Process:
    return process()
