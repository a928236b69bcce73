"""A device's conversation with the API, without I/O: what to ask next and when, and what each answer means.

    conversation = Conversation(replica, registration)
    match conversation.next(steady_ms):
        case Ask() as ask: …send it; then conversation.take(ask, answer, …), or take(ask, None, …) when no answer came
        case Wait() as wait: …sleep until wait.until_ms, an edit or a hint; then ask again

                    ┌───────────────────────────────── edit, hint, poll ─────────────────────────────────┐
                    ▼                                                                                    │
    start ──────► syncing ── more: false, queue empty ──► resting ───────────────────────────────────────┘
                  │  ▲  ▲ └─ digests differ ──► repairing (digest, then fetch) ── done ──► syncing
                  │  │  └──── 200 ──── token ◄── 401 (of any ask) ─── refused ──► stopped: signed_out
                  │  ├─────── 200 ──── register ◄── 409 unknown_device
                  │  ├─────── 400, 413, 422: half the changes; one alone is set aside
                  │  └─────── waiting ◄── 429, 5xx, no answer: full jitter, and at least Retry-After
                  ├── 410 account_deleted, or a refresh refused with wipe: true ──► stopped for good, wiped
                  ├── third reset in a day ──► stopped: reset_loop; asks again a day later
                  └── any other refusal ──► stopped: refused; asks again an hour later

Retries are by level: as long as something is to do, `next` gives it or says when. Nothing here is persisted: a new conversation
over the restored replica finds the same things to do. steady_ms is any clock that never steps; wall_ms the device's own, which
only `clock_offset_ms` is about.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from sync.replica import BYTES_A_REQUEST, CHANGES_A_REQUEST, RepairAsk, Replica
from sync.replica_wire import instant_ms

# Full jitter: a fleet that lost its server together must not come back together.
# Source: Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
BASE_MS: Final = 1_000
MOST_MS: Final = 5 * 60_000
_MOST_DOUBLINGS: Final = 16

# How often a device that rests looks for news without a hint.
POLL_EVERY_MS: Final = 15 * 60_000
# What the server refuses without a way on is mended by a new version of either side, not by asking often.
REFUSED_FOR_MS: Final = 60 * 60_000

# A restored server makes one reset, a second restore another. More within a day is a loop, in which a device would upload and
# download its account again and again: it stops, keeps its queue, and reports.
RESETS_A_DAY: Final = 2
DAY_MS: Final = 24 * 60 * 60_000

# What an answer must have to be the API's: a captive portal answers 200, too.
_MEMBERS: Final[Mapping[str, frozenset[str]]] = {
    "sync": frozenset({"results", "documents", "cursor", "more", "reset", "stamp", "server_time", "limits"}),
    "digest": frozenset({"digests"}),
    "fetch": frozenset({"documents", "more"}),
    "register": frozenset({"device_id", "replica"}),
    "token": frozenset(),
}

Stop = Literal["signed_out", "account_deleted", "reset_loop", "refused"]


class Ask(NamedTuple):
    """One request to the API. `token` has no body of ours: whoever holds the secrets gets a new access token."""

    kind: Literal["sync", "digest", "fetch", "register", "token"]
    path: str
    body: Mapping[str, Any]


class Wait(NamedTuple):
    """Nothing to do until then, unless there is an edit or a hint. A `stopped` conversation needs more than waiting, as it says."""

    until_ms: int
    stopped: Stop | None = None


class Answer(NamedTuple):
    """`body` decoded, or None if it could not be. retry_after_s: of the header, 0 without."""

    status: int
    body: Any
    retry_after_s: float = 0


class Conversation:
    """`registration` is the body of POST /v1/devices. `stopped_for` tells a problem's code or status where `stopped` is `refused`."""

    def __init__(self, replica: Replica, registration: Mapping[str, Any]) -> None:
        self.replica = replica
        self.registration = registration
        self.stopped: Stop | None = None
        self.stopped_for = ""
        self.clock_offset_ms: int | None = None
        self.attempts = 0
        self.next_attempt_ms = 0
        self._not_before_ms = 0
        self._next_news_ms = 0
        self._next_poll_ms = 0
        self._most_changes = CHANGES_A_REQUEST
        self._most_bytes = BYTES_A_REQUEST
        self._asked_at_ms = 0
        self._hints = 1  # the start of the app is one
        self._hints_asked = 0
        self._hints_answered = 0
        self._needs_token = False
        self._needs_registration = False
        self._repairs_next = False

    def hint(self) -> None:
        """There may be news: `GET /v1/sync/live` or a push said so. A busy server may have asked to wait with that."""
        self._hints += 1

    def look(self) -> None:
        """The user looks at the app: ask for news now."""
        self._next_news_ms = 0
        self.hint()

    def signed_in(self) -> None:
        """The user logged in again."""
        self._needs_token = False
        self.go_on()

    def go_on(self) -> None:
        """There is a network again, or somebody dealt with why it stopped: ask now, or when the server's Retry-After is over.

        An account that is deleted stays so.
        """
        if self.stopped != "account_deleted":
            self.stopped, self.attempts, self.next_attempt_ms = None, 0, self._not_before_ms

    def next(self, steady_ms: int) -> Ask | Wait:
        """Return what to ask now, or until when to wait. Changes nothing: ask again after a lost answer."""
        if self.stopped in {"account_deleted", "signed_out"}:
            return Wait(steady_ms + DAY_MS, self.stopped)
        if steady_ms < self.next_attempt_ms:
            return Wait(self.next_attempt_ms, self.stopped)
        self._asked_at_ms = steady_ms
        if self._needs_token:
            return Ask("token", "/v1/oauth/token", {})
        if self._needs_registration:
            return Ask("register", "/v1/devices", self.registration)
        replica = self.replica
        if replica.wants_to_repair and (self._repairs_next or not replica.wants_to_sync):
            repair = replica.repair_request()
            return Ask("digest" if repair.path == "/v1/sync/digest" else "fetch", repair.path, repair.body)
        news_ms = self._next_news_ms if self._hints > self._hints_answered else self._next_poll_ms
        if replica.wants_to_sync or steady_ms >= news_ms:
            self._hints_asked = self._hints
            body = replica.request(most_changes=self._most_changes, most_bytes=self._most_bytes)
            return Ask("sync", "/v1/sync", body)
        return Wait(news_ms)

    def take(self, ask: Ask, answer: Answer | None, *, steady_ms: int, wall_ms: int, dice: float) -> None:
        """Take the answer to `ask`, None if none came in time. `dice` is drawn evenly from [0, 1).

        What changed of the replica is then committed as one: `replica.snapshot()`.
        """
        if answer is None or answer.status >= 500 or answer.status == 429 or not _is_ours(ask, answer):
            self._back_off(steady_ms, dice, 0 if answer is None else answer.retry_after_s)
            return
        code = answer.body.get("code", "") if isinstance(answer.body, dict) else ""
        match answer.status:
            case 200 | 201:
                self._accepted(ask, answer.body, steady_ms, wall_ms)
            case 410 if code == "account_deleted":
                self._wipe()
            case 400 | 401 if ask.kind == "token":
                if isinstance(answer.body, dict) and answer.body.get("wipe") is True:
                    self._wipe()
                else:
                    self.stopped = "signed_out"
            case 401:
                self._needs_token = True
                self._again_at_once_or_later(steady_ms, dice)
            case 409 if code == "unknown_device" and ask.kind != "register":
                self._needs_registration = True
                self._again_at_once_or_later(steady_ms, dice)
            case 400 | 413 | 422 if ask.kind == "sync" and ask.body["changes"]:
                self._halve(ask.body["changes"])
            case status if ask.kind in {"digest", "fetch"}:
                self.replica.give_up_repair()
            case status:
                self.stopped, self.stopped_for = "refused", code or str(status)
                self.next_attempt_ms = steady_ms + REFUSED_FOR_MS

    def _accepted(self, ask: Ask, body: Any, steady_ms: int, wall_ms: int) -> None:
        match ask.kind:
            case "token":
                self._needs_token = False
            case "register":
                self._needs_registration = False
                self.replica.registered(body["device_id"], body["replica"])
            case "digest" | "fetch":
                self.replica.receive_repair(RepairAsk(ask.path, dict(ask.body)), body)  # type: ignore[arg-type]
                self._repairs_next = False
            case "sync":
                self._synced(ask, body, steady_ms, wall_ms)
                return
        if ask.kind in {"digest", "fetch"}:
            self._went_well()

    def _went_well(self) -> None:
        """Not after a new token or registration, which may be refused again at once: attempts go on counting until they help."""
        self.attempts, self.next_attempt_ms, self.stopped = 0, 0, None

    def _synced(self, ask: Ask, body: Any, steady_ms: int, wall_ms: int) -> None:
        server_ms = instant_ms(body["server_time"])
        self.clock_offset_ms = server_ms - (wall_ms - (steady_ms - self._asked_at_ms) // 2)
        if body["reset"] and sum(abs(server_ms - at_ms) < DAY_MS for at_ms in self.replica.resets) >= RESETS_A_DAY:
            self.stopped, self.next_attempt_ms = "reset_loop", steady_ms + DAY_MS
            return
        self._went_well()
        self.replica.receive(ask.body, body)
        limits = body["limits"]
        self._most_changes = min(2 * self._most_changes, CHANGES_A_REQUEST, limits["max_changes"])
        self._most_bytes = min(BYTES_A_REQUEST, limits["max_bytes"] // 2)  # the envelope has the other half
        self._next_news_ms = steady_ms + limits["next_sync_after_s"] * 1000
        self._next_poll_ms = max(steady_ms + POLL_EVERY_MS, self._next_news_ms)
        self._hints_answered = self._hints_asked  # one that came since may be newer than the answer
        self._repairs_next = True

    def _wipe(self) -> None:
        self.stopped = "account_deleted"
        self.replica = Replica("", 0)

    def _halve(self, changes: list[dict[str, Any]]) -> None:
        if len(changes) == 1:
            self.replica.set_aside(changes[0]["id"])
        else:
            self._most_changes = len(changes) // 2

    def _back_off(self, steady_ms: int, dice: float, retry_after_s: float) -> None:
        most_ms = min(MOST_MS, BASE_MS << min(self.attempts, _MOST_DOUBLINGS))
        self.attempts += 1
        self._not_before_ms = steady_ms + round(retry_after_s * 1000)
        self.next_attempt_ms = self._not_before_ms + round(dice * most_ms)

    def _again_at_once_or_later(self, steady_ms: int, dice: float) -> None:
        """The first time there is no need to wait; what does not help must not be done in a tight loop."""
        if self.attempts:
            self._back_off(steady_ms, dice, 0)
        else:
            self.attempts = 1


def _is_ours(ask: Ask, answer: Answer) -> bool:
    if answer.status >= 300:
        return True
    return isinstance(answer.body, dict) and _MEMBERS[ask.kind] <= answer.body.keys()
