"""Composition of the gateway: `build(settings, open_resources)` gives an ASGI application."""

import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final
from uuid import UUID

from msgspec import ValidationError, convert
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fitness_api import (
    erase,
    problems,
    proofs,
    resources,
    routes_account,
    routes_auth,
    routes_authorize,
    routes_clients,
    routes_device_login,
    routes_enrolment,
    routes_export,
    routes_factors,
    routes_federation,
    routes_imports,
    routes_live,
    routes_login,
    routes_logs,
    routes_oauth,
    routes_operations,
    routes_pages,
    routes_recovery,
    routes_recovery_pages,
    routes_stats,
    routes_sync,
    routes_sync_review,
    routes_workouts,
)
from fitness_api.bodies import answer_format
from fitness_api.errors import InsufficientScope, NotAuthenticated, NotFound
from fitness_api.idempotency import HEADER
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.errors import AccountDeleted, FirstPartyOnly
from fitness_api.identity.scopes import FIRST_PARTY
from fitness_api.limits import known_devices
from fitness_api.limits.addresses import UNKNOWN, networks
from fitness_api.limits.errors import LimitsError
from fitness_api.limits.limiter import Limits
from fitness_api.middleware import (
    AccessLog,
    BodylessHead,
    ClientAddress,
    Compression,
    RateLimitHeaders,
    RequestIds,
    SecurityHeaders,
)
from fitness_api.operation import Media, Operation
from fitness_api.proofs import asked_of
from fitness_api.resources import Resources
from fitness_api.routes_operations import Served, publish
from fitness_api.settings import Settings

OPERATIONS: Final[tuple[Operation, ...]] = (
    *routes_auth.OPERATIONS,
    *routes_factors.OPERATIONS,
    *routes_enrolment.OPERATIONS,
    *routes_federation.OPERATIONS,
    *routes_oauth.OPERATIONS,
    *routes_clients.OPERATIONS,
    *routes_authorize.OPERATIONS,
    *routes_device_login.OPERATIONS,
    *routes_login.OPERATIONS,
    *routes_recovery.OPERATIONS,
    *routes_recovery_pages.OPERATIONS,
    *routes_account.OPERATIONS,
    *routes_export.OPERATIONS,
    *routes_sync.OPERATIONS,
    *routes_sync_review.OPERATIONS,
    *routes_workouts.OPERATIONS,
    *routes_stats.OPERATIONS,
    *routes_imports.OPERATIONS,
    *routes_logs.OPERATIONS,
    *routes_operations.OPERATIONS,
    *routes_pages.OPERATIONS,
)

UNDECLARED_KIB: Final = 1024

# Ids are compared as text in the database, so that only one spelling of a UUID may come in.
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

OpenResources = Callable[[Settings], AbstractAsyncContextManager[Resources]]


def build(
    settings: Settings,
    open_resources: OpenResources = resources.open_resources,
    operations: tuple[Operation, ...] = OPERATIONS,
) -> ASGIApp:
    """Nothing is opened before the server starts the lifespan. Raises SettingsInvalid."""
    resources.check(settings)
    published = publish(operations, public_url=settings.public_url)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[Served]:
        async with open_resources(settings) as opened, erase.resuming(opened["erased"], opened["leases"]):
            yield {**opened, "published": published}

    starlette = Starlette(
        routes=[*routes_live.ROUTES, *routes(operations)],
        exception_handlers=problems.handlers(settings.public_url),
        lifespan=lifespan,
    )
    # A redirect would repeat a request's body to a place that its sender never named.
    starlette.router.redirect_slashes = False
    limited = RateLimitHeaders(BodylessHead(Compression(starlette)))
    guarded = SecurityHeaders(limited, https=settings.public_url.startswith("https:"))
    return ClientAddress(
        RequestIds(AccessLog(guarded)), trusted=networks(settings.trusted_proxies), header=settings.proxy_header
    )


def routes(operations: Iterable[Operation]) -> list[BaseRoute]:
    """Return one route a path, fixed segments before parameters, so that the order of the tables decides nothing."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        methods = by_path.setdefault(operation.path, {})
        if operation.method in methods:
            raise ValueError(f"{operation.method} {operation.path} is declared twice")
        methods[operation.method] = operation
    ordered = sorted(by_path, key=lambda path: [(segment.startswith("{"), segment) for segment in path.split("/")])
    made = [Route(path, _Path(by_path[path])) for path in ordered]
    return [FixedRoutes([route for route in made if "{" not in route.path]), *(r for r in made if "{" in r.path)]


class FixedRoutes(BaseRoute):
    """All paths without parameters: one look-up, where the router would try the pattern of each in turn."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = {route.path: route for route in routes}

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        route = self.routes.get(scope["path"]) if scope["type"] == "http" else None
        if route is None:
            return Match.NONE, {}
        return Match.FULL, {"endpoint": route.endpoint, "path_params": {}, "route": route}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["route"].handle(scope, receive, send)


class _Path:
    """Serves every method of one path."""

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self._operations = dict(operations)
        if "GET" in operations:
            self._operations["HEAD"] = operations["GET"]
        self._allow = ", ".join(sorted([*self._operations, "OPTIONS"]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith("\n"):
            raise HTTPException(404)  # the router's patterns end with `$`, which lets a line break follow
        method = scope["method"]
        if method == "OPTIONS":
            await Response(status_code=204, headers={"Allow": self._allow})(scope, receive, send)
            return
        operation = self._operations.get(method)
        if operation is None:
            raise HTTPException(405, headers={"Allow": self._allow})
        request: Request[Resources] = Request(scope, receive)
        response = await _serve(operation, request)
        await response(scope, receive, send)


async def _serve(operation: Operation, request: Request[Resources]) -> Response:
    """Check what the operation declares, then call its handler."""
    principal = None
    if operation.login:
        sessions = request.state["sessions"]
        try:
            principal = await sessions.authenticate(
                request.headers.get("authorization"), asked_of(request), anew=_is_sensitive(operation)
            )
        except AccountDeleted as deleted:
            if operation.if_deleted is None:
                raise
            return await operation.if_deleted(request, deleted.user_id)
        request = _asked_again_after_its_body(request, principal) if _is_sensitive(operation) else request
        if operation.scope is not None and operation.scope not in principal.scopes:
            raise InsufficientScope(operation.scope)
        if operation.recent_login:
            if principal.client_id != FIRST_PARTY:
                # A user who lets an app see and change a profile has not let it add ways in, take all away, or erase.
                raise FirstPartyOnly
            sessions.require_recent_login(principal)
            await request.state["logins"].require_second_factor(principal)
    try:
        await _count(operation, request, None if principal is None else principal.user_id)
    except LimitsError as refused:
        if operation.if_limited is None:
            raise
        return operation.if_limited(refused)
    for parameter in operation.parameters:
        if parameter.where == "path":
            _check(request.path_params[parameter.name], parameter.type)
    # Before the handler: a write that was done must not be answered by a refusal.
    if any(answer is not None and not isinstance(answer, Media) for answer in operation.answers.values()):
        answer_format(request)
    response = await _handle(operation, request, principal)
    if proofs.HEADER in request.headers:
        # So that the client's next proof has one before it is asked for it.
        response.headers[proofs.NONCE_HEADER] = request.state["possession"].nonce()
    return response


def _asked_again_after_its_body(request: Request[Resources], principal: Principal) -> Request[Resources]:
    """A body may be kept back for minutes. Whoever's logins all ended meanwhile, because the account turned out to be another
    person's or the password was reset, is not to add a passkey by a request that was let in before.
    """
    receive, sessions = request.receive, request.state["sessions"]

    async def received() -> Message:
        message = await receive()
        is_whole = message["type"] == "http.request" and not message.get("more_body", False)
        if is_whole and not await sessions.goes_on(principal):
            raise NotAuthenticated("The session has ended.")
        return message

    return Request(request.scope, received)


async def _handle(operation: Operation, request: Request[Resources], principal: Principal | None) -> Response:
    handler = partial(operation.handler, request, principal) if operation.login else partial(operation.handler, request)
    if operation.method != "POST" or HEADER not in request.headers:
        return await handler()
    limits = request.state["limits"]
    if principal is None:
        await limits.require("idempotency")
        # A client of the token endpoint may show who it is in this header alone, and send the body that any other sends.
        whose = " ".join([limits.client_block, *request.headers.getlist("authorization")])
    else:
        await limits.require("idempotency:account", principal.user_id)
        whose = f"{principal.user_id} {principal.client_id}"
    return await request.state["idempotency"].serve(
        request,
        handler,
        whose=whose,
        reads_body=operation.body is not None,
        is_repeatable=operation.is_repeatable,
    )


def _is_sensitive(operation: Operation) -> bool:
    """Whether its session is looked up every time: what an ended session must not do even within RECHECK_MS, whether or not Redis
    told of its end.
    """
    changes = operation.method != "GET"
    return operation.recent_login or operation.scope == "admin" or (operation.scope == "account" and changes)


async def _count(operation: Operation, request: Request[Resources], user_id: str | None) -> None:
    """Raises LimitsError. A handler that learns more of whose the request is counts on, by `request.state["limits"]`."""
    limits = _limits_of(request)
    request.state["limits"] = limits
    for flow in operation.flows:
        await limits.require(flow, user_id, cost=_kib(request) if flow == "upload_kib" else 1)


def _limits_of(request: Request[Resources]) -> Limits:
    https = request.state["settings"].public_url.startswith("https:")
    device = known_devices.in_cookies(request.cookies, https=https) if "cookie" in request.headers else ""
    address = UNKNOWN if request.client is None else request.client.host
    return request.state["limiter"].of(address, device_cookie=device, https=https)


def _kib(request: Request[Resources]) -> int:
    """Of a body that comes in chunks nobody knows the length before; most are shorter than this."""
    declared = request.headers.get("content-length", "")
    return 1 + (int(declared[:20]) // 1024 if declared.isdecimal() else UNDECLARED_KIB)


def _check(value: str, kind: Any) -> None:
    """Raises NotFound if a path parameter is not of its declared type; a thing of such a name cannot exist."""
    if kind is UUID:
        if not _UUID.fullmatch(value):
            raise NotFound("id")
        return
    if kind is str:
        return
    try:
        convert(value, kind, strict=False)
    except ValidationError as error:
        raise NotFound("path") from error
