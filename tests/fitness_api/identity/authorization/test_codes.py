"""Redeeming a code, at the moments between its commands."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.audit import Origin
from fitness_api.identity.audit_log import AuditLog
from fitness_api.identity.audit_store_mongo import MongoAuditStore
from fitness_api.identity.authorization import clients
from fitness_api.identity.authorization.asking import Asked
from fitness_api.identity.authorization.clients import Client
from fitness_api.identity.authorization.codes import LIFETIME_MS, Codes
from fitness_api.identity.authorization.device_grants import Approval
from fitness_api.identity.errors import GrantInvalid
from fitness_api.identity.sessions import TokenPair
from fitness_api.identity.single_use_mongo import MongoSingleUse
from fitness_api.identity.store_mongo import MongoStore
from tests.fitness_api.identity.conftest import Clock, Process
from tests.fitness_api.oauth import CHALLENGE, REDIRECT, VERIFIER

COACH = Client(
    client_id=str(uuid4()),
    name="Coach",
    redirect_uris=(REDIRECT,),
    grant_types=(clients.AUTHORIZATION_CODE, clients.REFRESH_TOKEN),
    scopes=("sync",),
)
ASKED = Asked(client=COACH, redirect_uri=REDIRECT, scopes=("sync",), code_challenge=CHALLENGE, state=None)


class Interrupted(MongoSingleUse):
    """Calls `after_use` once, after a code was spent and before its session is there."""

    after_use: Callable[[], Awaitable[None]] | None = None

    async def use(self, kind: str, digest: bytes, *, now_ms: int, note: bytes = b"") -> Any:
        used = await super().use(kind, digest, now_ms=now_ms, note=note)
        if self.after_use is not None:
            interruption, self.after_use = self.after_use, None
            await interruption()
        return used


class Server:
    def __init__(self, database: AsyncDatabase[dict[str, Any]], sessions: Process, clock: Clock) -> None:
        self.artefacts = Interrupted(database)
        self.sessions = sessions
        audit = AuditLog(MongoAuditStore(database), now_ms=clock)
        self.codes = Codes(self.artefacts, sessions, MongoStore(database), audit, now_ms=clock)

    async def code(self) -> str:
        pair = await self.sessions.register(email="ada@example.org", password="correct horse")
        self.ada = await self.who(pair)
        approval = Approval(
            user_id=self.ada.user_id, session_id=self.ada.session_id, methods=("pwd",), authenticated_at_ms=1_000
        )
        return await self.codes.issue(ASKED, approval, origin=Origin())

    async def redeem(self, code: str) -> TokenPair:
        return await self.codes.redeem(
            code, COACH, redirect_uri=REDIRECT, verifier=VERIFIER, origin=Origin(), key_thumbprint=None
        )

    async def who(self, pair: TokenPair) -> Principal:
        return await self.sessions.authenticate(f"Bearer {pair.access_token}")


@pytest.fixture
def server(database: AsyncDatabase[dict[str, Any]], sessions: Process, clock: Clock) -> Server:
    return Server(database, sessions, clock)


async def test_it_holds_for_a_minute(server: Server, clock: Clock) -> None:
    code = await server.code()
    clock.now_ms += LIFETIME_MS
    with pytest.raises(GrantInvalid):
        await server.redeem(code)


async def test_a_replay_before_the_session_is_there_ends_it_all_the_same(server: Server) -> None:
    code = await server.code()

    async def replay() -> None:
        with pytest.raises(GrantInvalid):
            await server.redeem(code)

    server.artefacts.after_use = replay
    await server.redeem(code)
    assert [one.client_id for one in await server.sessions.of(server.ada.user_id)] == ["app"]


async def test_parallel_redemptions_begin_one_session_at_most(server: Server) -> None:
    code = await server.code()
    results = await asyncio.gather(*(server.redeem(code) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(result, TokenPair) for result in results) == 1
    assert sum(isinstance(result, GrantInvalid) for result in results) == 19
    assert len(await server.sessions.of(server.ada.user_id)) == 1
