"""A device over HTTP: it sends what its conversation says, and nothing more."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final, NamedTuple

import httpx
import msgspec

from fitness_api.fleet.errors import EnrolmentRefused
from sync.changes import Format
from sync.conversation import Answer, Ask, Conversation, Wait
from sync.replica import Replica

# Far above what a page takes over a poor link; a connection that is silent for so long is lost.
TIMEOUT_S: Final = 30

# A gateway hashes few passwords at once: a fleet that signs up together waits for its turn.
_ENROL_ATTEMPTS: Final = 60

_ENCODE: Final[Mapping[Format, Callable[[Any], bytes]]] = {
    "json": msgspec.json.encode,
    "msgpack": msgspec.msgpack.encode,
}


@dataclass
class Login:
    """One device's login. Each has its own: a refresh token that two devices use is taken for a stolen one."""

    access_token: str
    refresh_token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.access_token}"}

    async def renew(self, http: httpx.AsyncClient) -> Answer | None:
        form = {"grant_type": "refresh_token", "refresh_token": self.refresh_token}
        answer = await _sent(http.post("/v1/oauth/token", data=form))
        if answer is not None and answer.status == 200:
            self.access_token, self.refresh_token = answer.body["access_token"], answer.body["refresh_token"]
        return answer


class Exchange(NamedTuple):
    """One request as it went: `status` None if no answer came. Bytes are those of bodies, as they went over the wire."""

    kind: str
    status: int | None
    up_bytes: int
    down_bytes: int
    elapsed_ms: float


class DeviceHttp:
    """`commit` is given the device's state whenever it changed; `wall_ms` is its own, perhaps wrong, clock."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        login: Login,
        conversation: Conversation,
        *,
        commit: Callable[[bytes], None],
        note: Callable[[Exchange], None] = lambda _: None,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        dice: Random,
        body_format: Format = "json",
    ) -> None:
        self.conversation = conversation
        self._http = http
        self._login = login
        self._commit = commit
        self._note = note
        self._wall_ms = wall_ms
        self._dice = dice
        self._format: Format = body_format

    async def step(self) -> Wait | None:
        """Send one request and take its answer, or return until when there is none to send."""
        match self.conversation.next(_steady_ms()):
            case Wait() as wait:
                return wait
            case Ask() as ask:
                answer = await (self._login.renew(self._http) if ask.kind == "token" else self._send(ask))
        # From here to the commit nothing is awaited: a device that dies finds all of an answer in its store, or nothing.
        self.conversation.take(ask, answer, steady_ms=_steady_ms(), wall_ms=self._wall_ms(), dice=self._dice.random())
        self._commit(self.conversation.replica.snapshot())
        return None

    async def until_rest(self) -> Wait:
        """Go on until nothing is left to say, through waits for another attempt."""
        while True:
            wait = await self.step()
            replica = self.conversation.replica
            if wait is None:
                continue
            if wait.stopped or not (replica.wants_to_sync or replica.wants_to_repair):
                return wait
            await asyncio.sleep(max(0, wait.until_ms - _steady_ms()) / 1000)

    async def _send(self, ask: Ask) -> Answer | None:
        content = _ENCODE[self._format](ask.body)
        media_type = f"application/{self._format}"
        headers = {**self._login.headers, "content-type": media_type, "accept": media_type}
        began_s = time.perf_counter()
        try:
            response = await self._http.post(ask.path, content=content, headers=headers)
        except httpx.TransportError:
            answer, status, down_bytes = None, None, 0
        else:
            answer, status, down_bytes = _answer(response), response.status_code, response.num_bytes_downloaded
        elapsed_ms = (time.perf_counter() - began_s) * 1000
        self._note(Exchange(ask.kind, status, len(content), down_bytes, elapsed_ms))
        return answer


async def sign_up(http: httpx.AsyncClient, email: str, password: str) -> Login:
    """Raises EnrolmentRefused."""
    pair = await _enrolled(http, "/v1/auth/register", {"email": email, "password": password})
    return Login(pair["access_token"], pair["refresh_token"])


async def log_in(http: httpx.AsyncClient, email: str, password: str) -> Login:
    """Raises EnrolmentRefused."""
    pair = await _enrolled(http, "/v1/auth/login", {"email": email, "password": password})
    return Login(pair["access_token"], pair["refresh_token"])


async def register(http: httpx.AsyncClient, login: Login, registration: Mapping[str, Any]) -> Replica:
    """Register the installation and return its empty replica. Raises EnrolmentRefused."""
    made = await _enrolled(http, "/v1/devices", registration, headers=login.headers)
    return Replica(made["device_id"], made["replica"])


async def _enrolled(
    http: httpx.AsyncClient, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Any:
    answer: Answer | None = None
    for _ in range(_ENROL_ATTEMPTS):
        answer = await _sent(http.post(path, json=body, headers=headers))
        if answer is None:
            raise EnrolmentRefused(f"No API answers at {http.base_url}. Start it with scripts/up.")
        if answer.status not in {429, 503}:
            break
        await asyncio.sleep(answer.retry_after_s)
    if answer is None or answer.status >= 300:
        raise EnrolmentRefused(f"{path}: {answer and answer.status} {answer and answer.body}")
    return answer.body


async def _sent(request: Any) -> Answer | None:
    try:
        return _answer(await request)
    except httpx.TransportError:
        return None


def _answer(response: httpx.Response) -> Answer | None:
    """None for a 2xx whose body cannot be read: as good as lost."""
    try:
        if response.headers.get("content-type", "").startswith("application/msgpack"):
            body = msgspec.msgpack.decode(response.content)
        else:
            body = msgspec.json.decode(response.content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        if response.is_success:
            return None
        body = None
    retry_after = response.headers.get("retry-after", "")
    return Answer(response.status_code, body, float(retry_after) if retry_after.isdecimal() else 0)


def _steady_ms() -> int:
    return time.monotonic_ns() // 1_000_000
