from typing import Any

import msgspec
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.identity.accounts import Account
from fitness_api.identity.audit import Origin
from fitness_api.identity.audit_log import AuditLog
from fitness_api.identity.audit_store_mongo import MongoAuditStore
from fitness_api.identity.errors import MfaRequired
from fitness_api.identity.factors import totp
from fitness_api.identity.factors.completion import Completion
from fitness_api.identity.factors.enrolment import Caller, Enrolment
from fitness_api.identity.factors.passkeys import Assertion, NewCredential, Party
from fitness_api.identity.factors.proofs import Proofs
from fitness_api.identity.factors.store_mongo import MongoFactorStore
from fitness_api.identity.logins import Logins
from fitness_api.identity.passwords import Passwords
from fitness_api.identity.single_use_mongo import MongoSingleUse
from fitness_api.identity.store_mongo import MongoStore
from tests.fitness_api.identity.conftest import MASTER_KEY, Clock, Process
from tests.fitness_api.identity.factors.authenticator import Authenticator, Json

PASSWORD = "correct horse"
PARTY = Party(rp_id="api.test", name="Fitness", origins=("https://api.test",))
HERE = Origin("203.0.113.7", "Pixel")


def told(options: Any) -> Json:
    """What a client reads of it."""
    read: Json = msgspec.json.decode(msgspec.json.encode(options))
    return read


class Person:
    """An account, by what its owner can do."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]], passwords: Passwords, clock: Clock) -> None:
        self.clock = clock
        self.sessions = Process(database, passwords, clock)
        self.store = MongoFactorStore(database)
        self.artefacts = MongoSingleUse(database)
        self.accounts = MongoStore(database)
        self.audit = AuditLog(MongoAuditStore(database), now_ms=self._tick)
        self.proofs = Proofs(self.store, self.artefacts, PARTY, master_key=MASTER_KEY, now_ms=clock)
        self.enrolment = Enrolment(
            self.store,
            self.artefacts,
            self.audit,
            PARTY,
            master_key=MASTER_KEY,
            has_other_way_in=self.accounts.has_way_in,
            now_ms=clock,
        )
        self.logins = Logins(
            self.accounts,
            passwords,
            self.sessions,
            self.artefacts,
            self.audit,
            second_factors=self.proofs.ways,
            now_ms=clock,
        )
        self.completion = Completion(self.logins, self.proofs, self.artefacts, self.audit, now_ms=clock)
        self.email = ""
        self.user_id = ""
        self.secret = b""
        self.codes: tuple[str, ...] = ()

    async def settle(self, email: str = "ada@example.org") -> "Person":
        pair = await self.logins.register(email=email, password=PASSWORD, origin=HERE)
        principal = await self.sessions.authenticate(f"Bearer {pair.access_token}")
        self.email, self.user_id = email, principal.user_id
        self.caller = Caller(principal.user_id, principal.session_id, HERE)
        return self

    async def account(self) -> Account:
        account = await self.accounts.account(self.user_id)
        assert account is not None
        return account

    async def use_app(self) -> None:
        """Set up an authenticator app, and wait until its first code is past."""
        begun = await self.enrolment.begin_totp(await self.account())
        self.secret = await self._secret()
        assert totp.encoded(self.secret) == begun.secret
        self.codes = await self.enrolment.confirm_totp(self.caller, self.code())
        self.clock.advance(s=60)

    def code(self, off: int = 0) -> str:
        return totp.code(self.secret, totp.step_of(self.clock.now_ms) + off)

    def wrong_code(self) -> str:
        right = {self.code(off) for off in (-1, 0, 1)}
        return next(one for one in ("000000", "000001", "000002", "000003") if one not in right)

    async def use_passkey(self, **how: Any) -> Authenticator:
        authenticator = Authenticator(**how)
        options = told(await self.enrolment.passkey_options(await self.account()))
        credential = msgspec.convert(authenticator.create(options), NewCredential)
        added = await self.enrolment.add_passkey(self.caller, credential, name="Phone")
        self.codes = added.recovery_codes or self.codes
        return authenticator

    async def mfa_token(self) -> str:
        """What a login by password gives, without the time that checking one takes."""
        with pytest.raises(MfaRequired) as required:
            await self.logins.admit(self.user_id, methods=("pwd",), origin=HERE)
        return required.value.mfa_token

    async def shown(self, authenticator: Authenticator, mfa_token: str) -> Assertion:
        options = told(await self.completion.passkey_options(mfa_token))
        return msgspec.convert(authenticator.get(options), Assertion)

    async def events(self) -> list[str]:
        """The oldest first."""
        return [event.kind for event in reversed(await self.audit.of(self.user_id, limit=100))]

    def _tick(self) -> int:
        """No two events at one time, so that they come back in their order."""
        self.clock.now_ms += 1
        return self.clock.now_ms

    async def _secret(self) -> bytes:
        begun = (await self.store.held(self.user_id)).begun
        assert begun is not None
        return totp.unseal(begun.sealed, user_id=self.user_id, key=totp.derive_key(MASTER_KEY))


@pytest.fixture
async def ada(database: AsyncDatabase[dict[str, Any]], passwords: Passwords, clock: Clock) -> Person:
    return await Person(database, passwords, clock).settle()


@pytest.fixture
async def bob(ada: Person, database: AsyncDatabase[dict[str, Any]], passwords: Passwords, clock: Clock) -> Person:
    return await Person(database, passwords, clock).settle("bob@example.org")
