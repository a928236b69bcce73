"""The whole application in this process, called as a server calls it, over worlds that live for some hundred requests."""

import asyncio
import logging
import time
import traceback
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final
from urllib.parse import unquote
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace
from pymongo import AsyncMongoClient
from starlette.types import ASGIApp, Message, Scope

from fitness_api import app, resources
from fitness_api.identity import access_tokens, refresh_tokens
from fitness_api.identity.key_ring import KeyRing
from fitness_api.identity.sessions import FIRST_PARTY, USER_SCOPES
from fitness_api.middleware import JSONFormatter
from fitness_api.settings import Settings
from sync.head import SEEN_EVERY_MS
from sync.merge import PURGE_AFTER_MS
from sync.quarantine import MAX_BYTES
from sync.store_tidying import TidyingStore
from tests.fuzz.stores import MemoryTracks, StrictStore

PUBLIC_URL: Final = "http://api.test"
MASTER_KEY: Final = b"f" * 32

# No answer takes a second on an idle machine, however large the request; a busy one gets ten times that.
ANSWERED_WITHIN_S: Final = 10.0

_TOKEN_USED_FOR_S: Final = access_tokens.LIFETIME_S / 2
USERS: Final = 2  # of a world: one whose requests are mutated most, and a bystander


class Sent(Struct, frozen=True, kw_only=True):
    """A request, complete but for its token. `path` as in the request line, `pieces` how many messages the body comes in.

    cut: the connection ends where the body's last byte should follow. With the method `!` the world itself does what `path` says.
    """

    user: int = 0
    method: str = "POST"
    path: str = "/v1/sync"
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    has_token: bool = True
    body: bytes = b""
    pieces: int = 1
    cut: bool = False

    def header(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.headers if known == name]


class Answer(Struct, frozen=True, kw_only=True):
    status: int
    headers: dict[str, str]
    body: bytes
    duration_s: float


class Fault(Exception):
    """Something that must not happen did. `kind` tells faults apart while one is shrunk."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class _Alarms(logging.Handler):
    """Keeps what was logged as a warning or worse, and formats everything as production does."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JSONFormatter())
        self.raised: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if record.levelno >= logging.WARNING:
            trace = "".join(traceback.format_exception(record.exc_info[1])) if record.exc_info else ""
            self.raised.append(f"{line}\n{trace}")


class Gateway:
    def __init__(self, application: ASGIApp, state: dict[str, Any], alarms: _Alarms) -> None:
        self.application = application
        self.state = state
        self.alarms = alarms
        self._tokens: dict[str, tuple[float, bytes]] = {}
        self._keys = KeyRing(state["accounts"], MASTER_KEY)

    async def token(self, user_id: str) -> bytes:
        """Return a real access token, of a session that the accounts' store holds."""
        made_at, _ = self._tokens.get(user_id, (-_TOKEN_USED_FOR_S, b""))
        if time.monotonic() - made_at > _TOKEN_USED_FOR_S:
            now_ms = time.time_ns() // 1_000_000
            session_id = str(UUID(int=Random(f"{user_id}{now_ms}").getrandbits(128), version=4))
            session = refresh_tokens.begin(
                user_id=user_id,
                session_id=session_id,
                client_id=FIRST_PARTY,
                scopes=USER_SCOPES,
                user_agent="",
                now_ms=now_ms,
            )
            await self.state["accounts"].add_session(session)
            minted = access_tokens.mint(
                await self._keys.current(),
                issuer=PUBLIC_URL,
                audience=PUBLIC_URL,
                user_id=user_id,
                session_id=session_id,
                client_id=FIRST_PARTY,
                scopes=USER_SCOPES,
                generation=session.counter,
                authenticated_at_s=now_ms // 1000,
                now_s=now_ms // 1000,
                token_id=session_id,
            )
            self._tokens[user_id] = (time.monotonic(), f"Bearer {minted}".encode())
        return self._tokens[user_id][1]


@asynccontextmanager
async def opened(mongo_url: str, redis_url: str, database: str) -> AsyncIterator[Gateway]:
    """Identity is on a real database; it is asked once in some seconds."""
    settings = Settings(
        mongo_url=mongo_url,
        redis_url=redis_url,
        mongo_database=database,
        master_key=b64encode(MASTER_KEY).decode(),
        public_url=PUBLIC_URL,
        unlimited_networks="127.0.0.0/8",
    )
    application = app.build(settings, resources.open_resources)
    state: dict[str, Any] = {}
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    alarms = _Alarms()
    log = logging.getLogger("fitness_api")
    level = log.level
    log.addHandler(alarms)
    log.setLevel(logging.INFO)
    lifespan: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}
    running = asyncio.ensure_future(_live(application, lifespan, to_app, from_app))
    try:
        to_app.put_nowait({"type": "lifespan.startup"})
        if (started := await from_app.get())["type"] != "lifespan.startup.complete":
            raise RuntimeError(str(started))
        yield Gateway(application, state, alarms)
        to_app.put_nowait({"type": "lifespan.shutdown"})
        await running
    finally:
        running.cancel()
        log.removeHandler(alarms)
        log.setLevel(level)


async def _live(
    application: ASGIApp, scope: Scope, to_app: "asyncio.Queue[Message]", from_app: "asyncio.Queue[Message]"
) -> None:
    await application(scope, to_app.get, from_app.put)


@asynccontextmanager
async def database_of(mongo_url: str) -> AsyncIterator[str]:
    """An emptied database for sessions and signing keys, named by the process."""
    name = f"fuzz_{time.time_ns():x}"
    yield name
    async with AsyncMongoClient[dict[str, Any]](mongo_url) as client:
        await client.drop_database(name)


class World:
    """Two accounts with two devices each, made of the seed alone, so that what was sent to one world may be sent to another."""

    def __init__(self, gateway: Gateway, seed: int) -> None:
        dice = Random(seed)
        self.seed = seed
        self.gateway = gateway
        self.store = StrictStore(Random(seed))
        self.tracks = MemoryTracks()
        # The same few in every world of a process: each takes a session in the database.
        self.user_ids = [str(UUID(int=number + 1, version=4)) for number in range(USERS)]
        self.devices = [[str(UUID(int=dice.getrandbits(128), version=4)) for _ in range(2)] for _ in range(USERS)]
        self.replicas: list[list[int]] = []
        self._state = {
            **gateway.state,
            "sync_store": TidyingStore(self.store, _announce, self.tracks),
            "sync_log": self.store,
            "tracks": self.tracks,
        }

    async def begin(self) -> None:
        for user_id, devices in zip(self.user_ids, self.devices, strict=True):
            self.replicas.append([await self.store.register_device(user_id, device) for device in devices])

    async def send(self, sent: Sent) -> Answer | None:
        """Raises Fault if the application fails, warns, or does not end. None: it was no request."""
        if sent.method == "!":
            await self._act(sent)
            return None
        headers = list(sent.headers)
        if sent.has_token:
            headers.append((b"authorization", await self.gateway.token(self.user_ids[sent.user])))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": sent.method,
            "scheme": "http",
            "path": unquote(sent.path),
            "raw_path": sent.path.encode(),
            "query_string": sent.query,
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 8080),
            "state": self._state.copy(),
        }
        arriving = _messages(sent)
        got: list[Message] = []

        async def receive() -> Message:
            return next(arriving)

        async def send(message: Message) -> None:
            got.append(message)

        begun = time.perf_counter()
        try:
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                await self.gateway.application(scope, receive, send)
        except TimeoutError:
            raise Fault("no_answer", f"none within {ANSWERED_WITHIN_S} s") from None
        except Exception as error:
            raise Fault("exception", "".join(traceback.format_exception(error))) from error
        duration_s = time.perf_counter() - begun
        if alarms := self.gateway.alarms.raised:
            logged, alarms[:] = "\n".join(alarms), []
            raise Fault("logged", logged)
        if duration_s > ANSWERED_WITHIN_S:
            raise Fault("slow", f"answered after {duration_s:.1f} s")
        kinds = [message["type"] for message in got]
        if not got or kinds != ["http.response.start"] + ["http.response.body"] * (len(got) - 1):
            raise Fault("messages", f"{kinds}")
        if [bool(message.get("more_body")) for message in got[1:]] != [True] * (len(got) - 2) + [False]:
            raise Fault("messages", "the answer's body has no end, or goes on behind it")
        return Answer(
            status=got[0]["status"],
            headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in got[0]["headers"]},
            body=b"".join(message.get("body", b"") for message in got[1:]),
            duration_s=duration_s,
        )

    async def _act(self, sent: Sent) -> None:
        """Let time pass, or an operator act: what requests alone bring about in months only."""
        account = self.store._account(self.user_ids[sent.user])
        head = account.head
        if head is None:
            return
        match sent.path:
            case "age":
                # What was deleted was so 31 days ago; every device has been told since, or was silent.
                past_ms = PURGE_AFTER_MS + SEEN_EVERY_MS
                for document in account.documents.values():
                    if document.deleted_ms:
                        document.deleted_ms = max(1, document.deleted_ms - past_ms)
                devices = {
                    name: replace(device, presented=head.seq, seen_ms=max(0, device.seen_ms - SEEN_EVERY_MS))
                    for name, device in head.devices.items()
                }
                account.head = replace(head, devices=devices, purge_at_ms=min(head.purge_at_ms, 1))
            case "full":
                # At least what the quarantine holds, which is all that the head promises: it is counted anew.
                account.head = replace(head, quarantined_bytes=MAX_BYTES + 1)
            case "epoch":
                await self.store.bump_epoch(self.user_ids[sent.user])


def _announce(_: str) -> None:
    """Nobody listens."""


def _messages(sent: Sent) -> Any:
    step = max(1, -(-len(sent.body) // max(1, sent.pieces)))
    pieces = [sent.body[start : start + step] for start in range(0, len(sent.body), step)] or [b""]
    for number, piece in enumerate(pieces):
        yield {"type": "http.request", "body": piece, "more_body": sent.cut or number + 1 < len(pieces)}
    while True:
        yield {"type": "http.disconnect"}
