"""World after world: draw a request, mutate it, send it, check the answer; and when something is wrong, make it small."""

import asyncio
import json
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sync.changes import Format
from sync.head import Head
from sync.schema import COLLECTIONS
from tests.fuzz import mutate
from tests.fuzz.checks import check, check_round_trip, documented
from tests.fuzz.gateway import Answer, Fault, Gateway, Sent, World
from tests.fuzz.invariants import Follower, check_accounts
from tests.fuzz.valid import Draw

# Requests to one world: enough for states to build up, few enough for a fault's history to be replayed while it is shrunk.
REQUESTS_A_WORLD: Final = 400
_CHECKED_EVERY: Final = 130
# Of requests at the bounds, which take a hundred times as long as others.
_LARGE: Final = 0.0007
_SHRINKING_S: Final = 60.0
_KINDS: Final = ("sync",) * 68 + ("digest",) * 4 + ("fetch",) * 5 + ("chunk",) * 5 + (
    "rejected", "rejected", "conflicts", "conflicts", "retry", "retry", "restore", "restore", "schema", "tracks", "tracks", "path", "again", "again", "again", "again", "act",
)  # fmt: skip


class Failure(Struct, kw_only=True):
    """A fault, and the requests that bring it about in a new world of this seed."""

    kind: str
    detail: str
    world_seed: int
    requests: list[Sent]


class Figures(Struct):
    requests: int = 0
    worlds: int = 0
    bytes_sent: int = 0
    statuses: dict[str, int] = {}
    results: dict[str, int] = {}
    slowest_s: float = 0.0
    failures: list[Failure] = []

    def add(self, other: "Figures") -> None:
        self.requests += other.requests
        self.worlds += other.worlds
        self.bytes_sent += other.bytes_sent
        self.statuses = dict(Counter(self.statuses) + Counter(other.statuses))
        self.results = dict(Counter(self.results) + Counter(other.results))
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.failures = [*self.failures, *other.failures]


async def run(gateway: Gateway, *, requests: int, seed: int) -> Figures:
    """Send so many requests. Stops at the first fault, which it shrinks."""
    figures = Figures()
    statuses: Counter[str] = Counter()
    results: Counter[str] = Counter()
    while figures.requests < requests and not figures.failures:
        world_seed = seed * 1_000_003 + figures.worlds
        history: list[Sent] = []
        try:
            await _one_world(
                gateway,
                world_seed,
                min(REQUESTS_A_WORLD, requests - figures.requests),
                history,
                figures,
                statuses,
                results,
            )
        except Fault as fault:
            failure = Failure(kind=fault.kind, detail=str(fault), world_seed=world_seed, requests=history)
            figures.failures.append(await shrunk(gateway, failure))
        figures.worlds += 1
    figures.statuses, figures.results = dict(statuses), dict(results)
    return figures


async def _one_world(
    gateway: Gateway,
    seed: int,
    count: int,
    history: list[Sent],
    figures: Figures,
    statuses: Counter[str],
    results: Counter[str],
) -> None:
    world = World(gateway, seed)
    await world.begin()
    drawing = _Drawing(world, Random(seed ^ 0x5EED))
    followers = [Follower(world, user, 1) for user in range(2)]
    for number in range(count):
        sent = drawing.next()
        history.append(sent)
        figures.requests += 1
        figures.bytes_sent += len(sent.body)
        response = await _checked(world, sent, figures, statuses, results)
        if response is not None:
            drawing.draw.learn(sent.user, response)
        if number % _CHECKED_EVERY == _CHECKED_EVERY - 1:
            await inspect(world, followers, number)
        if number % 64 == 63:
            await asyncio.sleep(0)
    await inspect(world, followers, count)


async def inspect(world: World, followers: list[Follower], number: int) -> None:
    """Check what holds between requests; and that a device which follows, and one that begins now, are given all."""
    check_accounts(world)
    turn = number // _CHECKED_EVERY
    answered: Format = "json" if turn % 3 else "msgpack"
    await followers[0].catch_up(limit=(20, 5, 500, 50)[turn % 4], answered=answered)
    await followers[1].catch_up(limit=500, answered=answered)
    if turn % 4 == 0:
        await Follower(world, 0, 1).catch_up(limit=10, answered=answered)


async def _checked(world: World, sent: Sent, figures: Figures, statuses: Counter[str], results: Counter[str]) -> Any:
    heads = [await world.store.head(user_id) for user_id in world.user_ids]
    answer = await world.send(sent)
    if answer is None:
        return None
    try:
        return await _judged(world, sent, answer, heads, figures, statuses, results)
    except Fault:
        raise
    except Exception as error:  # what the checks themselves cannot digest is as good as a fault
        raise Fault("check", "".join(traceback.format_exception(error))) from error


async def _judged(
    world: World,
    sent: Sent,
    answer: Answer,
    heads: Sequence[Head | None],
    figures: Figures,
    statuses: Counter[str],
    results: Counter[str],
) -> Any:
    route, _, _ = documented(sent.method, sent.path)
    statuses[f"{sent.method} {route} {answer.status}"] += 1
    figures.slowest_s = max(figures.slowest_s, answer.duration_s)
    response = check(sent, answer)
    if response is not None and route == "/v1/sync":
        check_round_trip(sent, response, world, heads[sent.user])
        results.update(result.code or result.status for result in response.results)
    if await world.store.head(world.user_ids[1 - sent.user]) is not heads[1 - sent.user]:
        raise Fault("isolation", "a request of one account changed another")
    return response


class _Drawing:
    """The next request: drawn, then mutated or not."""

    def __init__(self, world: World, dice: Random) -> None:
        self.draw = Draw(world, dice)
        self._dice = dice
        self._bodies: list[bytes] = []
        self._sent: list[Sent] = []

    def next(self) -> Sent:
        sent = self._next()
        if sent.method != "!" and len(sent.body) < 20_000:
            self._sent.append(sent)
            del self._sent[:-30]
        return sent

    def _next(self) -> Sent:
        dice = self._dice
        user = 0 if dice.random() < 0.85 else 1
        kind = dice.choice(_KINDS)
        if kind == "again" and self._sent:
            # A lost answer, or a request that was overtaken by others.
            return dice.choice(self._sent)
        if kind == "act":
            return Sent(user=user, method="!", path=dice.choice(("age", "age", "full", "epoch")))
        if dice.random() < _LARGE:
            kind = "large"
        method, path, value, query = self._operation(kind, user)
        name = dice.choice(("json", "json", "msgpack"))
        fate = dice.random()
        body = b""
        if value is not None:
            if 0.35 < fate < 0.7:
                value = mutate.structure(value, dice, name)
            body = mutate.encoded(value, name)
            if 0.7 < fate < 0.9 and body:
                body = mutate.octets(body, dice, self._bodies, name)
            if len(body) < 4_000:
                self._bodies.append(body)
                del self._bodies[:-30]
        given: list[tuple[bytes, bytes]] = [(b"content-type", b"application/" + name.encode())]
        if dice.random() < 0.3:
            given.append((b"accept", dice.choice((b"application/json", b"application/msgpack"))))
        if dice.random() < 0.1:
            given.append((b"accept-encoding", dice.choice((b"gzip", b"br", b"zstd", b"gzip, br, zstd"))))
        if dice.random() < 0.15 and body:
            body, coding = self._coded(body)
            given.append((b"content-encoding", coding))
        if dice.random() < 0.5:
            given.append((b"content-length", str(len(body)).encode()))
        headers, has_token = tuple(given), True
        if fate > 0.9:
            headers, has_token = mutate.headers(headers, dice)
        return Sent(
            user=user,
            method=method,
            path=path,
            query=query,
            headers=headers,
            has_token=has_token,
            body=body,
            pieces=dice.choice((1, 1, 1, 1, 2, 7)),
            cut=dice.random() < 0.005,
        )

    def _coded(self, body: bytes) -> tuple[bytes, bytes]:
        dice = self._dice
        if dice.random() < 0.02:
            return dice.choice(mutate.bombs())
        codings = [dice.choice(("gzip", "zstd", "br", "x-gzip", "identity")) for _ in range(dice.choice((1, 1, 1, 2)))]
        for coding in codings:
            body = mutate.compressed(body, coding)
        if dice.random() < 0.2:
            body = mutate.octets(body, dice, self._bodies, "json")
        if dice.random() < 0.05:
            codings[0] = dice.choice(("gzip", "br", "zstd"))
        return body, ", ".join(codings).encode()

    def _operation(self, kind: str, user: int) -> tuple[str, str, Any, bytes]:
        dice, draw = self._dice, self.draw
        collection = dice.choice([*COLLECTIONS])
        match kind:
            case "large":
                return "POST", "/v1/sync", draw.large(user), b""
            case "digest":
                return "POST", "/v1/sync/digest", {"collection": collection, "buckets": 256}, b""
            case "fetch":
                asked = {"collection": collection, "bucket": dice.choice((0, 1, 255, dice.randrange(256)))}
                if dice.random() < 0.4:
                    asked["after"] = dice.choice((0, 1, 5, 2**53, 2**63 - 1, 2**63, 2**64 - 1))
                return "POST", "/v1/sync/fetch", asked, b""
            case "chunk":
                path = draw.chunk_path()
                return "PUT", path, draw.chunk(path), b""
            case "rejected" | "conflicts":
                query = mutate.query(dice, draw.pages[kind]) if dice.random() < 0.7 else b""
                return "GET", f"/v1/sync/{kind}", None, query
            case "retry":
                return "POST", f"/v1/sync/rejected/{draw.entry('rejected')}/retry", None, b""
            case "restore":
                return "POST", f"/v1/sync/conflicts/{draw.entry('conflicts')}/restore", None, b""
            case "schema":
                return "GET", "/v1/sync/schema", None, b""
            case "tracks":
                path = f"/v1/workouts/{dice.choice(draw.documents[:3])}/tracks"
                points = f"points={dice.choice((4, 5, 6, 50, 100_000))}".encode()
                return "GET", path, None, dice.choice((b"", points, points, mutate.query(dice, [])))
            case "path":
                return (
                    dice.choice(("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW")),
                    self._path(),
                    draw.round_trip(user),
                    b"",
                )
            case _:
                return "POST", "/v1/sync", draw.round_trip(user), b""

    def _path(self) -> str:
        dice, draw = self._dice, self.draw
        base = dice.choice(
            (
                "/v1/sync",
                "/v1/sync/rejected",
                "/v1/sync/schema",
                f"/v1/sync/rejected/{draw.uuid().upper()}/retry",
                draw.chunk_path(),
                "/v1/sync/conflicts/x/restore",
            )
        )
        return base + dice.choice(("", "", "/", "//", "/..", "%00", "%2F", "%ff", "%", "/x", "%0a", "/{id}"))


async def replayed(gateway: Gateway, failure: Failure) -> Fault | None:
    """Send a failure's requests to a new world of its seed, and return what goes wrong."""
    world = World(gateway, failure.world_seed)
    await world.begin()
    followers = [Follower(world, user, 1) for user in range(2)]
    ignored: Counter[str] = Counter()
    try:
        for number, sent in enumerate(failure.requests):
            await _checked(world, sent, Figures(), ignored, ignored)
            if number % _CHECKED_EVERY == _CHECKED_EVERY - 1:
                await inspect(world, followers, number)
        for number in (0, 1, _CHECKED_EVERY, 3 * _CHECKED_EVERY):
            await inspect(world, followers, number)
    except Fault as fault:
        return fault
    return None


async def shrunk(gateway: Gateway, failure: Failure) -> Failure:
    """Leave out requests, then changes, then bytes, as long as the same kind of fault comes. Within a bounded time."""
    ends = time.monotonic() + _SHRINKING_S

    async def fails(requests: list[Sent]) -> bool:
        fault = await replayed(gateway, replace_requests(failure, requests))
        return fault is not None and fault.kind == failure.kind

    requests = failure.requests
    if not await fails(requests):
        return failure  # of the clock's making, or of the world before: the whole history is what there is
    step = max(1, len(requests) // 2)
    while step and time.monotonic() < ends:
        start = 0
        while start < len(requests) and time.monotonic() < ends:
            fewer = requests[:start] + requests[start + step :]
            if fewer and await fails(fewer):
                requests = fewer
            else:
                start += step
        step //= 2
    for index in range(len(requests)):
        for smaller in _smaller(requests[index]):
            if time.monotonic() > ends:
                break
            tried = [*requests[:index], smaller, *requests[index + 1 :]]
            if len(smaller.body) < len(requests[index].body) and await fails(tried):
                requests = tried
    fault = await replayed(gateway, replace_requests(failure, requests))
    return Failure(
        kind=failure.kind, detail=str(fault or failure.detail), world_seed=failure.world_seed, requests=requests
    )


def replace_requests(failure: Failure, requests: list[Sent]) -> Failure:
    return Failure(kind=failure.kind, detail=failure.detail, world_seed=failure.world_seed, requests=requests)


def _smaller(sent: Sent) -> list[Sent]:
    """The same with fewer changes, or fewer bytes."""
    found: list[bytes] = []
    try:
        value = json.loads(sent.body)
        for number in range(len(value.get("changes", ()))):
            fewer = value["changes"][:number] + value["changes"][number + 1 :]
            found.append(msgspec.json.encode({**value, "changes": fewer}))
        found += [msgspec.json.encode({**value, "changes": [one]}) for one in value.get("changes", ())]
    except (ValueError, AttributeError, TypeError):
        pass
    size = len(sent.body) // 2
    while size and len(found) < 200:
        found += [sent.body[:start] + sent.body[start + size :] for start in range(0, len(sent.body), size)]
        size //= 2
    return [replace(sent, body=body) for body in found[:200]]


def shown(failure: Failure) -> str:
    lines = [f"{failure.kind} in world {failure.world_seed}, after {len(failure.requests)} requests", failure.detail]
    for sent in failure.requests[-3:]:
        said = " ".join(f"{name.decode()}: {value!r}" for name, value in sent.headers)
        lines.append(f"user {sent.user}: {sent.method} {sent.path}?{sent.query!r} {said} {sent.body[:2_000]!r}")
    return "\n".join(lines).encode(errors="backslashreplace").decode()  # an answer may quote what is no text


def save(failure: Failure, folder: Path) -> Path:
    path = folder / f"failure-{failure.kind}-{failure.world_seed}.msgpack"
    path.write_bytes(msgspec.msgpack.encode(failure))
    return path


def load(path: Path) -> Failure:
    return msgspec.msgpack.decode(path.read_bytes(), type=Failure)
