"""Registering, logging in and out, and the account's sessions."""

from collections.abc import Mapping
from typing import Annotated, Final
from uuid import UUID

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import bodies
from fitness_api.errors import NotFound
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.accounts import MAX_DISPLAY_NAME, MAX_EMAIL, MAX_PASSWORD, MIN_PASSWORD, counted_as
from fitness_api.identity.refresh_tokens import Session
from fitness_api.identity.sessions import TokenPair
from fitness_api.operation import Operation, Parameter
from fitness_api.origins import origin_of
from fitness_api.proofs import key_thumbprint_of
from fitness_api.resources import Resources

# Room for what is trimmed or composed before it is measured; the true bounds are the account's.
_ROOM: Final = 4
# An address, a password and a name.
LOGIN_LIMIT_BYTES: Final = 16 * 1024
Email = Annotated[str, Meta(max_length=MAX_EMAIL * _ROOM, description=f"At most {MAX_EMAIL} characters.")]


class Registration(Struct, frozen=True, kw_only=True):
    """A new account. An address is compared without regard to case."""

    email: Email
    password: Annotated[
        str,
        Meta(
            max_length=MAX_PASSWORD * _ROOM,
            description=f"{MIN_PASSWORD} to {MAX_PASSWORD} characters of any kind, counted in NFC.",
        ),
    ]
    display_name: Annotated[str, Meta(max_length=MAX_DISPLAY_NAME * _ROOM)] | None = None


class Login(Struct, frozen=True, kw_only=True):
    email: Email
    password: Annotated[str, Meta(max_length=MAX_PASSWORD * _ROOM)]


class ListedSession(Struct, frozen=True, kw_only=True):
    """One login. `current` is the caller's own; it expires at `expires_at` unless it is used before.

    client_name: null where the client was removed. methods: how the user proved who they are, in the words of RFC 8176. key_bound: its tokens are of use only with the client's key.
    """

    id: str
    client_id: str
    client_name: str | None
    scope: str
    user_agent: str
    methods: tuple[str, ...]
    key_bound: bool
    created_at: str
    last_used_at: str
    expires_at: str
    current: bool


class SessionList(Struct, frozen=True, kw_only=True):
    """The latest used first."""

    sessions: list[ListedSession]


async def register(request: Request[Resources]) -> Response:
    body = await bodies.read(request, Registration, limit_bytes=LOGIN_LIMIT_BYTES)
    limits = request.state["limits"]
    address = counted_as(body.email)
    await limits.require("register", address)
    pair = await request.state["logins"].register(
        email=body.email,
        password=body.password,
        display_name=body.display_name,
        origin=origin_of(request),
        key_thumbprint=await key_thumbprint_of(request),
    )
    return bodies.respond(request, pair, status=201, headers=limits.remember(address))


async def login(request: Request[Resources]) -> Response:
    body = await bodies.read(request, Login, limit_bytes=LOGIN_LIMIT_BYTES)
    limits = request.state["limits"]
    address = counted_as(body.email)
    is_known_device = limits.knows(address)
    with request.state["logins"].admitted(is_known_device=is_known_device):
        await limits.require("login", address)
        pair = await request.state["logins"].login(
            email=body.email,
            password=body.password,
            origin=origin_of(request),
            key_thumbprint=await key_thumbprint_of(request),
            is_known_device=is_known_device,
        )
    return bodies.respond(request, pair, headers=limits.remember(address))


async def logout(request: Request[Resources], principal: Principal) -> Response:
    await request.state["sessions"].revoke(principal.user_id, principal.session_id, origin=origin_of(request))
    return Response(status_code=204)


async def list_sessions(request: Request[Resources], principal: Principal) -> Response:
    sessions = await request.state["sessions"].of(principal.user_id)
    names = await request.state["registrations"].names(session.client_id for session in sessions)
    return bodies.respond(request, SessionList(sessions=[_listed(session, names, principal) for session in sessions]))


async def read_session(request: Request[Resources], principal: Principal) -> Response:
    session = await request.state["sessions"].one(principal.user_id, request.path_params["id"])
    if session is None:
        raise NotFound("session")
    names = await request.state["registrations"].names((session.client_id,))
    return bodies.respond(request, _listed(session, names, principal))


async def end_session(request: Request[Resources], principal: Principal) -> Response:
    sessions, session_id = request.state["sessions"], request.path_params["id"]
    if not await sessions.revoke(principal.user_id, session_id, origin=origin_of(request)):
        raise NotFound("session")
    return Response(status_code=204)


async def end_sessions(request: Request[Resources], principal: Principal) -> Response:
    await request.state["sessions"].revoke_all(principal.user_id, origin=origin_of(request))
    return Response(status_code=204)


def _listed(session: Session, names: Mapping[str, str], principal: Principal) -> ListedSession:
    return ListedSession(
        id=session.session_id,
        client_id=session.client_id,
        client_name=names.get(session.client_id),
        scope=" ".join(session.scopes),
        user_agent=session.user_agent,
        methods=session.methods,
        key_bound=session.key_thumbprint is not None,
        created_at=bodies.rfc3339(session.authenticated_at_ms),
        last_used_at=bodies.rfc3339(session.used_at_ms or session.authenticated_at_ms),
        expires_at=bodies.rfc3339(session.expires_at_ms),
        current=session.session_id == principal.session_id,
    )


_BINDING: Final = (
    "With a proof in the DPoP header (RFC 9449) the tokens are bound to its key. It needs a nonce: without one the answer is "
    "use_dpop_nonce, with the nonce in the DPoP-Nonce header."
)
_SESSION_ID: Final = Parameter(name="id", where="path", description="The session's id.", type=UUID, required=True)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/v1/auth/register",
        handler=register,
        tag="Identity",
        summary="Make an account and log in to it",
        description=_BINDING,
        body=Registration,
        answers={201: TokenPair},
        problems=("email_taken", "invalid_dpop_proof", "use_dpop_nonce", "unavailable"),
        limits=("register",),
    ),
    Operation(
        method="POST",
        path="/v1/auth/login",
        handler=login,
        tag="Identity",
        summary="Log in with address and password",
        description=f"Answers alike, in body and in time, whether or not the address is known. {_BINDING}",
        body=Login,
        answers={200: TokenPair},
        problems=(
            "invalid_credentials",
            "mfa_required",
            "invalid_dpop_proof",
            "use_dpop_nonce",
            "unavailable",
        ),
        limits=("login:client",),  # the rest when the account is known, and there is room
    ),
    Operation(
        method="POST",
        path="/v1/auth/logout",
        handler=logout,
        tag="Identity",
        summary="End this session",
        description=(
            "Every gateway refuses its tokens within a second, without Redis within five, and the push address that it registered goes."
        ),
        login=True,
        answers={204: None},
        problems=("unavailable",),
    ),
    Operation(
        method="GET",
        path="/v1/auth/sessions",
        handler=list_sessions,
        tag="Identity",
        summary="List where the account is logged in",
        login=True,
        scope="account",
        answers={200: SessionList},
        problems=("unavailable",),
    ),
    Operation(
        method="DELETE",
        path="/v1/auth/sessions",
        handler=end_sessions,
        tag="Identity",
        summary="Log out everywhere",
        description="Ends every session of the account, this one too, as logging out of each does.",
        login=True,
        scope="account",
        answers={204: None},
        problems=("unavailable",),
    ),
    Operation(
        method="GET",
        path="/v1/auth/sessions/{id}",
        handler=read_session,
        tag="Identity",
        summary="Read one of the account's sessions",
        login=True,
        scope="account",
        parameters=(_SESSION_ID,),
        answers={200: ListedSession},
        problems=("unavailable",),
    ),
    Operation(
        method="DELETE",
        path="/v1/auth/sessions/{id}",
        handler=end_session,
        tag="Identity",
        summary="End one of the account's sessions",
        login=True,
        scope="account",
        parameters=(_SESSION_ID,),
        answers={204: None},
        problems=("unavailable",),
    ),
)
