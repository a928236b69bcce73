"""`GET /v1/sync/live`: a WebSocket that says when to sync."""

import asyncio
import time
from contextlib import ExitStack
from typing import Any, Final

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from fitness_api import problems
from fitness_api.close_codes import CloseCode
from fitness_api.errors import ApiError, InsufficientScope, NotAuthenticated, NotFound, UpgradeRequired
from fitness_api.hint_messages import Changed, Malformed, Refused, Token, TokenAccepted, decode, encode
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.errors import AccountDeleted, IdentityError, StoreUnavailable
from fitness_api.identity.sessions import Sessions
from fitness_api.live_sockets import LiveSocket, LiveSockets
from fitness_api.proofs import asked_of

PATH: Final = "/v1/sync/live"
SCOPE: Final = "sync"
# A phone that brings a workout chunk by chunk would else have the account's other devices sync for each.
HINT_EVERY_S: Final = 0.2

_CHANGED: Final = encode(Changed())


async def live(scope: Scope, receive: Receive, send: Send) -> None:
    connection: HTTPConnection[Any] = HTTPConnection(scope)
    sessions: Sessions = connection.state["sessions"]
    sockets: LiveSockets = connection.state["live_sockets"]
    await receive()  # websocket.connect
    with ExitStack() as admission:
        try:
            principal = await sessions.authenticate(connection.headers.get("authorization"), asked_of(connection))
            _require_scope(principal)
            socket = admission.enter_context(sockets.admitted(principal))
        except (ApiError, IdentityError) as error:
            await _refuse(error, connection, receive, send)
            return
        await send({"type": "websocket.accept"})
        try:
            async with asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(_tell(socket, sockets, send))
                await _listen(socket, sessions, receive, send)
                telling.cancel()
        except* OSError:
            pass  # it ended while something was being said


def _require_scope(principal: Principal) -> None:
    """Raises InsufficientScope."""
    if SCOPE not in principal.scopes:
        raise InsufficientScope(SCOPE)


async def _refuse(error: Exception, connection: HTTPConnection[Any], receive: Receive, send: Send) -> None:
    """Answer the handshake as any request is answered."""
    response = problems.response(
        problems.problem_of(error),
        error,
        public_url=connection.state["settings"].public_url,
        request_id=connection.scope.get("request_id"),
    )
    await response(connection.scope, receive, send)


async def _tell(socket: LiveSocket, sockets: LiveSockets, send: Send) -> None:
    """Runs until the socket is to close, and closes it."""
    while True:
        await socket.woken()
        if socket.closing is None:
            # What ends a session is announced too, and who has lost it is told nothing more.
            await sockets.check(socket)
        if socket.closing is not None:
            await send({"type": "websocket.close", "code": socket.closing.code, "reason": socket.closing.reason})
            return
        await send({"type": "websocket.send", "text": _CHANGED})
        await asyncio.sleep(HINT_EVERY_S)


async def _listen(socket: LiveSocket, sessions: Sessions, receive: Receive, send: Send) -> None:
    """Runs until the connection ends."""
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        try:
            token = decode(text) if text is not None else _refuse_binary()
        except Malformed:
            socket.end(CloseCode.MALFORMED, "no such message")
            continue
        answer = Refused("unknown_message", "There is no message of this type.")
        await send(
            {"type": "websocket.send", "text": encode(await _renewed(socket, sessions, token) if token else answer)}
        )


def _refuse_binary() -> Token:
    raise Malformed("Messages are text.")


async def _renewed(socket: LiveSocket, sessions: Sessions, token: Token) -> TokenAccepted | Refused:
    try:
        principal = await sessions.principal_of(token.access_token)
        _require_scope(principal)
    except (NotAuthenticated, AccountDeleted) as error:
        return Refused("unauthenticated", str(error))
    except InsufficientScope as error:
        return Refused("insufficient_scope", str(error))
    except StoreUnavailable:
        return Refused("unavailable", "Send it again shortly.")
    if principal.user_id != socket.principal.user_id:
        return Refused("unauthenticated", "The access token is another account's.")
    if principal.key_thumbprint not in {None, socket.principal.key_thumbprint}:
        # The connection's own key was proved when it was opened; a message has no proof.
        return Refused("unauthenticated", "The access token is bound to another key.")
    socket.renew(principal)
    return TokenAccepted(max(0, principal.expires_at_s - int(time.time())))


async def _without_upgrade(_: Request[Any]) -> Response:
    raise UpgradeRequired


class _App:
    """Starlette takes a function for one of its own WebSocket sessions, and anything else for an application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await live(scope, receive, send)


class _NoSuchSocket:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await _refuse(NotFound("path"), HTTPConnection(scope), receive, send)


ROUTES: Final[tuple[BaseRoute, ...]] = (
    WebSocketRoute(PATH, _App()),
    WebSocketRoute("/{path:path}", _NoSuchSocket()),
    Route(PATH, _without_upgrade, methods=["GET"]),
)
