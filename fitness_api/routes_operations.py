"""Whether we live, whether we can serve, and what we serve. None of it needs a login."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import pymongo
from msgspec import Struct, json, structs
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import asyncapi, docs_page
from fitness_api.bodies import respond, respond_bytes
from fitness_api.docs_page import Page
from fitness_api.errors import NotFound, NotReady
from fitness_api.openapi import document
from fitness_api.operation import Media, Operation, Parameter
from fitness_api.problems import CATALOGUE
from fitness_api.resources import Resources

# A load balancer asks every few seconds and gives up soon; a dependency that takes this long serves nobody anyway.
READY_WITHIN_S: Final = 2.0

# Published pages change with a deployment only.
_PUBLISHED_FOR: Final = "public, max-age=300"


class Dependency(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`needed`: without it no request is served. `error` is the class of what went wrong, never its text."""

    ok: bool
    needed: bool
    latency_ms: float
    error: str | None = None


class Alive(Struct, frozen=True, kw_only=True):
    status: Literal["alive"]


class Ready(Struct, frozen=True, kw_only=True):
    """`degraded`: something is missing that most requests do without."""

    status: Literal["ready", "degraded"]
    dependencies: dict[str, Dependency]


@dataclass(frozen=True)
class Published:
    """What the gateway says of itself, rendered once when it starts."""

    openapi_json: bytes
    asyncapi_json: bytes
    docs: Page
    problems: Page
    problem: dict[str, Page]


def publish(operations: tuple[Operation, ...], *, public_url: str) -> Published:
    described = document(operations, public_url=public_url)
    return Published(
        openapi_json=json.encode(described),
        asyncapi_json=json.encode(asyncapi.document(public_url=public_url)),
        docs=docs_page.docs(described),
        problems=docs_page.problems(CATALOGUE.values()),
        problem={problem.slug: docs_page.problem(problem) for problem in CATALOGUE.values()},
    )


class Served(Resources):
    """The lifespan state that these routes read: what was opened, and what is published."""

    published: Published


async def alive(request: Request[Served]) -> Response:
    return respond(request, Alive(status="alive"), headers={"Cache-Control": "no-store"})


async def ready(request: Request[Served]) -> Response:
    mongo, redis = request.state["mongo"], request.state["redis"]

    async def ask_mongo() -> None:
        with pymongo.timeout(READY_WITHIN_S):
            hello = await mongo.admin.command("hello")
        # Through a direct connection any member answers; only a primary takes writes.
        if not hello.get("isWritablePrimary"):
            raise pymongo.errors.NotPrimaryError("no writable primary")

    async def ask_redis() -> None:
        await redis.ping()

    async def ask_keys() -> None:
        # Kept for a while, so that this is seldom a question; with another master key than theirs they are unreadable.
        await request.state["sessions"].published_keys()

    mongodb, keys, cache = await asyncio.gather(
        _ask(ask_mongo, needed=True), _ask(ask_keys, needed=True), _ask(ask_redis, needed=False)
    )
    dependencies = {"mongodb": mongodb, "signing_keys": keys, "redis": cache}
    if any(one.needed and not one.ok for one in dependencies.values()):
        raise NotReady({name: _plain(one) for name, one in dependencies.items()})
    status: Literal["ready", "degraded"] = "ready" if all(one.ok for one in dependencies.values()) else "degraded"
    return respond(request, Ready(status=status, dependencies=dependencies), headers={"Cache-Control": "no-store"})


def _plain(dependency: Dependency) -> dict[str, Any]:
    return {name: value for name, value in structs.asdict(dependency).items() if value is not None}


async def _ask(question: Callable[[], Awaitable[None]], *, needed: bool) -> Dependency:
    begun = time.perf_counter()
    error: str | None = None
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            await question()
    except Exception as failure:  # noqa: BLE001 the answer is that it failed, whatever a driver calls it
        error = type(failure).__name__
    latency_ms = round((time.perf_counter() - begun) * 1000, 1)
    return Dependency(ok=error is None, needed=needed, latency_ms=latency_ms, error=error)


async def openapi_json(request: Request[Served]) -> Response:
    return _description(request, request.state["published"].openapi_json)


async def asyncapi_json(request: Request[Served]) -> Response:
    return _description(request, request.state["published"].asyncapi_json)


def _description(request: Request[Served], published: bytes) -> Response:
    return respond_bytes(
        request,
        published,
        media_type="application/json",
        headers={"Cache-Control": _PUBLISHED_FOR, "Vary": "Accept-Encoding"},
    )


async def docs(request: Request[Served]) -> Response:
    return _page(request, request.state["published"].docs)


async def problems(request: Request[Served]) -> Response:
    return _page(request, request.state["published"].problems)


async def problem(request: Request[Served]) -> Response:
    page = request.state["published"].problem.get(request.path_params["slug"])
    if page is None:
        raise NotFound("problem")
    return _page(request, page)


def _page(request: Request[Served], page: Page) -> Response:
    return respond_bytes(
        request,
        page.html.encode(),
        media_type="text/html; charset=utf-8",
        headers={
            "Cache-Control": _PUBLISHED_FOR,
            "Content-Security-Policy": page.content_security_policy,
            "Vary": "Accept-Encoding",
        },
    )


_HTML: Final = Media(types=("text/html",), description="A page.")

OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        method="GET",
        path="/healthz",
        handler=alive,
        tag="Operations",
        summary="Is the process alive?",
        description="Asks nothing of any other part: a database that is down is no reason to restart a gateway.",
        answers={200: Alive},
        limits=(),  # a load balancer asks, from one address, and takes a refusal for an outage
    ),
    Operation(
        method="GET",
        path="/readyz",
        handler=ready,
        tag="Operations",
        summary="Can it serve?",
        description="Asks each part that it depends on, all at once, within two seconds.",
        answers={200: Ready},
        problems=("unavailable",),
        limits=(),  # a load balancer asks, from one address, and takes a refusal for an outage
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        handler=openapi_json,
        tag="Operations",
        summary="This description, as OpenAPI 3.1",
        answers={200: Media(types=("application/json",), description="The OpenAPI document.")},
    ),
    Operation(
        method="GET",
        path="/asyncapi.json",
        handler=asyncapi_json,
        tag="Operations",
        summary="The WebSockets, as AsyncAPI 3",
        answers={200: Media(types=("application/json",), description="The AsyncAPI document.")},
    ),
    Operation(
        method="GET",
        path="/docs",
        handler=docs,
        tag="Operations",
        summary="This description, as a page",
        answers={200: _HTML},
    ),
    Operation(
        method="GET",
        path="/problems",
        handler=problems,
        tag="Operations",
        summary="Every problem that an answer may name",
        answers={200: _HTML},
    ),
    Operation(
        method="GET",
        path="/problems/{slug}",
        handler=problem,
        tag="Operations",
        summary="One problem: what it means and what to do",
        parameters=(Parameter(name="slug", where="path", description="A problem's code, with dashes.", required=True),),
        answers={200: _HTML},
    ),
)
