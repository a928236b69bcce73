"""Authorization codes: given to who may ask, redeemed once, and when presented again, the end of what they gave."""

from collections.abc import Callable
from typing import Final
from uuid import uuid4

from msgspec import Struct, json

from fitness_api.identity import single_use
from fitness_api.identity.access_tokens import LIFETIME_S
from fitness_api.identity.audit import Origin
from fitness_api.identity.audit_log import AuditLog
from fitness_api.identity.authorization.asking import Asked, verifier_matches
from fitness_api.identity.authorization.clients import REFRESH_TOKEN, Client
from fitness_api.identity.authorization.device_grants import Approval
from fitness_api.identity.errors import GrantInvalid, InvalidCredentials
from fitness_api.identity.key_ring import wall_clock_ms
from fitness_api.identity.sessions import Sessions, TokenPair
from fitness_api.identity.single_use import Artefact, SingleUse, Used
from fitness_api.identity.store import Store

KIND: Final = "authorization_code"
LIFETIME_MS: Final = 60_000  # the protocol's number: an app that was opened by it redeems it at once

_REPLAYED: Final = b"!"  # before the session's id, once the code was presented again

_REFUSAL: Final = "The code was redeemed, has expired, or was never given to this client for this."


class Granted(Struct, frozen=True, kw_only=True):
    """What a code stands for."""

    client_id: str
    redirect_uri: str
    scopes: tuple[str, ...]
    code_challenge: str
    approval: Approval


class Codes:
    def __init__(
        self,
        artefacts: SingleUse,
        sessions: Sessions,
        store: Store,
        audit: AuditLog,
        *,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._artefacts = artefacts
        self._sessions = sessions
        self._store = store
        self._audit = audit
        self._now_ms = now_ms

    async def issue(self, asked: Asked, approval: Approval, *, origin: Origin) -> str:
        """Return a code for what the user allowed."""
        code = single_use.secret()
        granted = Granted(
            client_id=asked.client.client_id,
            redirect_uri=asked.redirect_uri,
            scopes=asked.scopes,
            code_challenge=asked.code_challenge,
            approval=approval,
        )
        await self._audit.record(
            approval.user_id,
            "client_authorized",
            origin=origin,
            session_id=approval.session_id,
            details={"client": asked.client.name, "scope": " ".join(asked.scopes)},
        )
        await self._artefacts.add(
            Artefact(
                kind=KIND,
                digest=single_use.digest_of(code),
                user_id=approval.user_id,
                content=json.encode(granted),
                expires_at_ms=self._now_ms() + LIFETIME_MS,
            )
        )
        return code

    async def redeem(
        self, code: str, client: Client, *, redirect_uri: str, verifier: str, origin: Origin, key_thumbprint: str | None
    ) -> TokenPair:
        """Begin the session that was allowed. Raises GrantInvalid.

        The command that spends the code names the session, so that whoever presents the code again finds what to end. Who does
        so before the session is there leaves a mark instead; who begins it looks for that afterwards. One of the two sees the other.
        """
        digest, now_ms = single_use.digest_of(code), self._now_ms()
        standing = await self._artefacts.read(KIND, digest, now_ms=now_ms)
        granted = None if standing is None else json.decode(standing.content, type=Granted)
        if granted is not None:
            if granted.client_id != client.client_id or granted.redirect_uri != redirect_uri:
                raise GrantInvalid(_REFUSAL)
            # Whatever ended the login that allowed it (a reset, an erasure, the user) ends this too.
            if await self._store.session(granted.approval.user_id, granted.approval.session_id) is None:
                raise GrantInvalid("The login that allowed it has ended.")
        matches = granted is not None and verifier_matches(verifier, granted.code_challenge)
        # A wrong verifier spends it too: somebody has the code and not what belongs to it, and nobody is to try again.
        session_id = str(uuid4())
        used = await self._artefacts.use(KIND, digest, now_ms=now_ms, note=session_id.encode() if matches else b"")
        if isinstance(used, Used):
            await self._end(used, client, origin)
        if not isinstance(used, Artefact) or granted is None or not matches:
            raise GrantInvalid(_REFUSAL)
        pair = await self._begun(granted, client, session_id, origin, key_thumbprint)
        again = await self._artefacts.use(KIND, digest, now_ms=now_ms)
        if isinstance(again, Used) and again.note.startswith(_REPLAYED):
            await self._sessions.revoke(granted.approval.user_id, session_id)
        return pair

    async def _begun(
        self, granted: Granted, client: Client, session_id: str, origin: Origin, key_thumbprint: str | None
    ) -> TokenPair:
        approval = granted.approval
        try:
            return await self._sessions.begin(
                approval.user_id,
                client_id=client.client_id,
                scopes=granted.scopes,
                methods=approval.methods,
                user_agent=origin.user_agent,
                key_thumbprint=key_thumbprint,
                session_id=session_id,
                authenticated_at_ms=approval.authenticated_at_ms,
                lifetime_ms=None if REFRESH_TOKEN in client.grant_types else LIFETIME_S * 1_000,
            )
        except InvalidCredentials as error:
            raise GrantInvalid("The account is no more.") from error

    async def _end(self, used: Used, client: Client, origin: Origin) -> None:
        """RFC 6749 section 4.1.2, ASVS 10.4.2: a code that is presented twice is somebody else's too."""
        granted = json.decode(used.artefact.content, type=Granted)
        session_id = used.note.removeprefix(_REPLAYED)
        if granted.client_id != client.client_id or not session_id:
            return
        await self._artefacts.annotate(KIND, used.artefact.digest, _REPLAYED + session_id)
        if await self._sessions.revoke(granted.approval.user_id, session_id.decode()):
            await self._audit.record(
                granted.approval.user_id,
                "code_replayed",
                origin=origin,
                session_id=session_id.decode(),
                details={"client": client.name},
            )
