"""Registering, logging in and out, the token endpoint, and what verifiers of our tokens read."""

from collections.abc import Mapping
from typing import Annotated, Final
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, json
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import bodies
from fitness_api.errors import ApiError, NotFound
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.accounts import MAX_DISPLAY_NAME, MAX_EMAIL, MAX_PASSWORD, MIN_PASSWORD
from fitness_api.identity.errors import AccountDeleted, GrantInvalid, ScopeExceeded
from fitness_api.identity.refresh_tokens import Session
from fitness_api.identity.sessions import FIRST_PARTY, USER_SCOPES, TokenPair
from fitness_api.identity.signing_keys import PublicJWK
from fitness_api.operation import Media, Operation, Parameter
from fitness_api.resources import Resources

# Room for what is trimmed or composed before it is measured; the true bounds are the account's.
_ROOM: Final = 4
# An address, a password and a name.
LOGIN_LIMIT_BYTES: Final = 16 * 1024
# A day after its publication a key signs; verifiers that look this often never meet an unknown one.
_KEYS_FOR: Final = "public, max-age=300"
# RFC 6749 section 5.1
_NOT_STORED: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}

_FORM: Final = "application/x-www-form-urlencoded"

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
    """One login. `current` is the caller's own; it expires at `expires_at` unless it is used before."""

    id: str
    client_id: str
    scope: str
    user_agent: str
    created_at: str
    last_used_at: str
    expires_at: str
    current: bool


class SessionList(Struct, frozen=True, kw_only=True):
    """The latest used first."""

    sessions: list[ListedSession]


class JWKSet(Struct, frozen=True, kw_only=True):
    """RFC 7517. The key that will sign next is among them a day before it does."""

    keys: tuple[PublicJWK, ...]


class AuthorizationServer(Struct, frozen=True, kw_only=True):
    """RFC 8414."""

    issuer: str
    token_endpoint: str
    revocation_endpoint: str
    jwks_uri: str
    scopes_supported: tuple[str, ...]
    response_types_supported: tuple[str, ...]
    grant_types_supported: tuple[str, ...]
    token_endpoint_auth_methods_supported: tuple[str, ...]
    revocation_endpoint_auth_methods_supported: tuple[str, ...]


class OAuthError(Struct, frozen=True, kw_only=True):
    """RFC 6749 section 5.2; `wipe` where the account was deleted, as in the problem account_deleted."""

    error: str
    error_description: str
    wipe: bool | UnsetType = UNSET


class _Refused(Exception):
    """What the token and revocation endpoints answer in OAuth's own form."""

    def __init__(self, error: str, description: str, *, status: int = 400, wipe: bool | UnsetType = UNSET) -> None:
        super().__init__(description)
        self.error = error
        self.status = status
        self.wipe = wipe


async def register(request: Request[Resources]) -> Response:
    body = await bodies.read(request, Registration, limit_bytes=LOGIN_LIMIT_BYTES)
    pair = await request.state["sessions"].register(
        email=body.email, password=body.password, display_name=body.display_name, user_agent=_user_agent(request)
    )
    return bodies.respond(request, pair, status=201)


async def login(request: Request[Resources]) -> Response:
    body = await bodies.read(request, Login, limit_bytes=LOGIN_LIMIT_BYTES)
    pair = await request.state["sessions"].login(
        email=body.email, password=body.password, user_agent=_user_agent(request)
    )
    return bodies.respond(request, pair)


async def logout(request: Request[Resources], principal: Principal) -> Response:
    await request.state["sessions"].revoke(principal.user_id, principal.session_id)
    return Response(status_code=204)


async def list_sessions(request: Request[Resources], principal: Principal) -> Response:
    sessions = await request.state["sessions"].of(principal.user_id)
    return bodies.respond(request, SessionList(sessions=[_listed(session, principal) for session in sessions]))


async def end_session(request: Request[Resources], principal: Principal) -> Response:
    if not await request.state["sessions"].revoke(principal.user_id, request.path_params["id"]):
        raise NotFound("session")
    return Response(status_code=204)


async def token(request: Request[Resources]) -> Response:
    try:
        form = await _form(request)
        match form.get("grant_type"):
            case "refresh_token":
                pair = await _refresh(request, form)
            case None:
                raise _Refused("invalid_request", "grant_type is missing.")
            case _:
                raise _Refused("unsupported_grant_type", "This grant type is not served.")
    except _Refused as refused:
        return _oauth_error(refused)
    return bodies.respond(request, pair, headers=_NOT_STORED)


async def revoke(request: Request[Resources]) -> Response:
    try:
        form = await _form(request)
        presented = form.get("token")
        if not presented:
            raise _Refused("invalid_request", "token is missing.")
        await request.state["sessions"].revoke_token(presented, client_id=_client(request, form))
    except _Refused as refused:
        return _oauth_error(refused)
    # Also for a token that is none: RFC 7009 section 2.2.
    return Response(status_code=200, headers=_NOT_STORED)


async def jwks(request: Request[Resources]) -> Response:
    keys = await request.state["sessions"].published_keys()
    return bodies.respond(request, JWKSet(keys=keys), headers={"Cache-Control": _KEYS_FOR})


async def authorization_server(request: Request[Resources]) -> Response:
    issuer = request.state["settings"].public_url.rstrip("/")
    described = AuthorizationServer(
        issuer=issuer,
        token_endpoint=f"{issuer}/v1/oauth/token",
        revocation_endpoint=f"{issuer}/v1/oauth/revoke",
        jwks_uri=f"{issuer}/.well-known/jwks.json",
        scopes_supported=USER_SCOPES,
        response_types_supported=(),
        grant_types_supported=("refresh_token",),
        token_endpoint_auth_methods_supported=("none",),
        revocation_endpoint_auth_methods_supported=("none",),
    )
    return bodies.respond(request, described, headers={"Cache-Control": _KEYS_FOR})


async def _refresh(request: Request[Resources], form: Mapping[str, str]) -> TokenPair:
    client_id = _client(request, form)
    presented = form.get("refresh_token")
    if not presented:
        raise _Refused("invalid_request", "refresh_token is missing.")
    scopes = frozenset(form["scope"].split()) if form.get("scope") else None
    try:
        return await request.state["sessions"].refresh(presented, client_id=client_id, scopes=scopes)
    except GrantInvalid as error:
        raise _Refused("invalid_grant", str(error)) from error
    except AccountDeleted as error:
        raise _Refused("invalid_grant", str(error), wipe=True) from error
    except ScopeExceeded as error:
        raise _Refused("invalid_scope", str(error)) from error


async def _form(request: Request[Resources]) -> dict[str, str]:
    try:
        return await bodies.read_form(request)
    except ApiError as error:
        raise _Refused("invalid_request", str(error)) from error


def _client(request: Request[Resources], form: Mapping[str, str]) -> str:
    """Return the client's id. Ours is public: it has nothing to authenticate with, and a client that tries is another."""
    client_id = form.get("client_id", FIRST_PARTY)
    if client_id != FIRST_PARTY or "client_secret" in form or "authorization" in request.headers:
        raise _Refused("invalid_client", "This client is not known.", status=401)
    return client_id


def _oauth_error(refused: _Refused) -> Response:
    # RFC 6749 section 5.2: ASCII, without quotes and backslashes.
    description = "".join(c for c in str(refused) if " " <= c <= "~" and c not in '"\\')
    headers: dict[str, str] = dict(_NOT_STORED)
    if refused.status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="fitness-api"'
    return Response(
        json.encode(OAuthError(error=refused.error, error_description=description, wipe=refused.wipe)),
        status_code=refused.status,
        headers=headers,
        media_type="application/json",
    )


def _user_agent(request: Request[Resources]) -> str:
    return request.headers.get("user-agent", "")


def _listed(session: Session, principal: Principal) -> ListedSession:
    return ListedSession(
        id=session.session_id,
        client_id=session.client_id,
        scope=" ".join(session.scopes),
        user_agent=session.user_agent,
        created_at=bodies.rfc3339(session.authenticated_at_ms),
        last_used_at=bodies.rfc3339(session.used_at_ms or session.authenticated_at_ms),
        expires_at=bodies.rfc3339(session.expires_at_ms),
        current=session.session_id == principal.session_id,
    )


_SESSION_ID: Final = Parameter(name="id", where="path", description="The session's id.", type=UUID, required=True)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/v1/auth/register",
        handler=register,
        tag="Identity",
        summary="Make an account and log in to it",
        body=Registration,
        answers={201: TokenPair},
        problems=("email_taken", "too_many_requests", "unavailable"),
    ),
    Operation(
        method="POST",
        path="/v1/auth/login",
        handler=login,
        tag="Identity",
        summary="Log in with address and password",
        description="Answers alike, in body and in time, whether or not the address is known.",
        body=Login,
        answers={200: TokenPair},
        problems=("invalid_credentials", "too_many_requests", "unavailable"),
    ),
    Operation(
        method="POST",
        path="/v1/auth/logout",
        handler=logout,
        tag="Identity",
        summary="End this session",
        description="Its tokens hold for 5 seconds more at most, and the push address that it registered goes.",
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
    Operation(
        method="POST",
        path="/v1/oauth/token",
        handler=token,
        tag="OAuth",
        summary="Refresh a token pair",
        description=(
            "grant_type=refresh_token, refresh_token, and perhaps client_id (`app`, which may be left out) and scope (to "
            "narrow the access token). Refresh tokens rotate. If the answer gets lost, send the same token again: the "
            "latest used one gets the same successor for 30 s, and longer while neither the successor nor its access "
            "token was seen. Any other token that was used before ends the session. Errors are those of RFC 6749 "
            "section 5.2: {error, error_description}; `invalid_grant` with `wipe`: true says that the account was deleted."
        ),
        body=Media(types=(_FORM,), description="RFC 6749 section 6."),
        answers={
            200: TokenPair,
            400: Media(types=("application/json",), description="RFC 6749 section 5.2: {error, error_description}."),
            401: Media(types=("application/json",), description="`invalid_client`: the client is not known."),
        },
        problems=("unavailable",),
    ),
    Operation(
        method="POST",
        path="/v1/oauth/revoke",
        handler=revoke,
        tag="OAuth",
        summary="End the session of a refresh or access token",
        description="RFC 7009: token, and perhaps token_type_hint and client_id. A token that does not hold is no error.",
        body=Media(types=(_FORM,), description="RFC 7009 section 2.1."),
        answers={
            200: None,
            400: Media(types=("application/json",), description="RFC 6749 section 5.2: {error, error_description}."),
            401: Media(types=("application/json",), description="`invalid_client`: the client is not known."),
        },
        problems=("unavailable",),
    ),
    Operation(
        method="GET",
        path="/.well-known/jwks.json",
        handler=jwks,
        tag="OAuth",
        summary="The keys that access tokens are signed with",
        answers={200: JWKSet},
        problems=("unavailable",),
    ),
    Operation(
        method="GET",
        path="/.well-known/oauth-authorization-server",
        handler=authorization_server,
        tag="OAuth",
        summary="What this authorization server serves",
        answers={200: AuthorizationServer},
    ),
)
