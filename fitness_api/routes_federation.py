"""Signing in with other issuers: nonces for their ID tokens, the way through a browser, and the identities of an account."""

import secrets
from typing import Annotated, Final
from uuid import UUID

from msgspec import DecodeError, Meta, Struct, json
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import bodies, browser_logins
from fitness_api.errors import NotFound
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.accounts import MAX_DISPLAY_NAME
from fitness_api.identity.errors import MfaRequired
from fitness_api.identity.federation.id_tokens import MAX_TOKEN_BYTES
from fitness_api.identity.federation.identities import Identity
from fitness_api.identity.federation.redirects import STATE_MS, Returned
from fitness_api.identity.federation.sign_ins import NONCE_MS
from fitness_api.identity.logins import PENDING_MS
from fitness_api.identity.scopes import PAGES
from fitness_api.operation import Media, Operation, Parameter
from fitness_api.origins import origin_of
from fitness_api.pages import browser
from fitness_api.resources import Resources

COOKIE: Final = "oidc"
_SECRET_BYTES: Final = 32
_COOKIE_CHARACTERS: Final = 43

# A code or an error, a state of 43 characters, and Apple's words about the user.
_ANSWER_LIMIT_BYTES: Final = 16 * 1024
_MAX_VALUE: Final = 4_096

HTML: Final = Media(types=("text/html",))
FORM: Final = Media(types=("application/x-www-form-urlencoded",))


class Nonce(Struct, frozen=True, kw_only=True):
    """For one ID token: as its `nonce`, in the clear or as the SHA-256 in hex. `expires_in` is in seconds."""

    nonce: str
    expires_in: int


class NewIdentity(Struct, frozen=True, kw_only=True):
    """`id_token` is of a provider that this service knows, and was made for a nonce of `/v1/auth/nonce`."""

    id_token: Annotated[str, Meta(max_length=MAX_TOKEN_BYTES)]


class LinkedIdentity(Struct, frozen=True, kw_only=True):
    """`email` is what the provider said when it was linked; an identity is issuer and subject alone."""

    id: str
    issuer: str
    subject: str
    email: str | None
    linked_at: str


class IdentityList(Struct, frozen=True, kw_only=True):
    """The first linked first."""

    identities: list[LinkedIdentity]


class _Name(Struct, frozen=True):
    firstName: str = ""  # noqa: N815  Apple's words
    lastName: str = ""  # noqa: N815


class _AppleUser(Struct, frozen=True):
    """What Apple sends beside the code, the first time only. Nobody signed it, so that only the name is taken."""

    name: _Name = _Name()


async def nonce(request: Request[Resources]) -> Response:
    drawn = await request.state["sign_ins"].nonce()
    return bodies.respond(request, Nonce(nonce=drawn, expires_in=NONCE_MS // 1000))


async def list_identities(request: Request[Resources], principal: Principal) -> Response:
    identities = await request.state["sign_ins"].of(principal.user_id)
    return bodies.respond(request, IdentityList(identities=[_listed(identity) for identity in identities]))


async def link(request: Request[Resources], principal: Principal) -> Response:
    body = await bodies.read(request, NewIdentity)
    identity, is_new = await request.state["sign_ins"].link(principal, body.id_token, origin=origin_of(request))
    return bodies.respond(request, _listed(identity), status=201 if is_new else 200)


async def unlink(request: Request[Resources], principal: Principal) -> Response:
    removed = await request.state["sign_ins"].unlink(
        principal.user_id, request.path_params["id"], origin=origin_of(request), session_id=principal.session_id
    )
    if not removed:
        raise NotFound("identity")
    return Response(status_code=204)


@browser_logins.page
async def begin(request: Request[Resources]) -> Response:
    redirects, name = request.state["redirects"], _provider(request)
    way_back = browser_logins.way_back(request.query_params.get("next", ""))
    # Several sign-ins may be under way in one browser, so that it keeps its cookie.
    known = browser.cookie(request, COOKIE) or ""
    if len(known) != _COOKIE_CHARACTERS:
        known = secrets.token_urlsafe(_SECRET_BYTES)
    response = browser_logins.to(await redirects.begin(name, way_back=way_back, browser=known))
    browser.set_cookie(
        request,
        response,
        COOKIE,
        known,
        max_age_s=STATE_MS // 1000,
        posted_from_elsewhere=redirects.answers_by_form(name),
    )
    return response


@browser_logins.page
async def returned(request: Request[Resources]) -> Response:
    given = request.query_params
    return await _finish(request, {name: given[name] for name in given})


@browser_logins.page
async def returned_by_form(request: Request[Resources]) -> Response:
    return await _finish(request, await bodies.read_form(request, limit_bytes=_ANSWER_LIMIT_BYTES))


async def _finish(request: Request[Resources], given: dict[str, str]) -> Response:
    values = {name: given.get(name, "")[:_MAX_VALUE] for name in ("state", "code", "error", "iss", "user")}
    settled = await request.state["redirects"].finish(
        _provider(request),
        Returned(
            state=values["state"],
            code=values["code"],
            error=values["error"],
            issuer=values["iss"],
            name=_told_name(values["user"]),
        ),
        browser=browser.cookie(request, COOKIE) or "",
        origin=origin_of(request),
    )
    if settled.user_id is None:
        return browser_logins.to(browser_logins.login_page(settled.way_back))
    try:
        pair = await request.state["sign_ins"].admit(settled.user_id, client_id=PAGES, origin=origin_of(request))
    except MfaRequired as needed:
        return browser_logins.put_off(request, needed.mfa_token, settled.way_back, max_age_s=PENDING_MS // 1000)
    return browser_logins.begin(request, pair, settled.way_back)


def _provider(request: Request[Resources]) -> str:
    name: str = request.path_params["provider"]
    if name not in request.state["redirects"].names:
        raise NotFound("provider")
    return name


def _told_name(user: str) -> str | None:
    try:
        name = json.decode(user, type=_AppleUser).name
    except (DecodeError, UnicodeError, RecursionError):
        return None
    return f"{name.firstName} {name.lastName}".strip()[:MAX_DISPLAY_NAME] or None


def _listed(identity: Identity) -> LinkedIdentity:
    return LinkedIdentity(
        id=identity.identity_id,
        issuer=identity.issuer,
        subject=identity.subject,
        email=identity.email,
        linked_at=bodies.rfc3339(identity.linked_at_ms),
    )


_PROVIDER: Final = Parameter(
    name="provider", where="path", description="The provider's name in this service's settings.", required=True
)
_CALLBACK: Final = "/v1/auth/oidc/{provider}/callback"

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/v1/auth/nonce",
        handler=nonce,
        tag="Identity",
        summary="Get a nonce for an ID token",
        description="Single use, five minutes.",
        answers={200: Nonce},
        problems=("unavailable",),
        limits=("nonce",),
    ),
    Operation(
        method="GET",
        path="/v1/auth/identities",
        handler=list_identities,
        tag="Identity",
        summary="List the account's identities of other providers",
        login=True,
        scope="account",
        answers={200: IdentityList},
        problems=("unavailable",),
    ),
    Operation(
        method="POST",
        path="/v1/auth/identities",
        handler=link,
        tag="Identity",
        summary="Link an identity of another provider",
        description="From then on it opens the account. 200 where it did already. The account's address has to be verified.",
        login=True,
        scope="account",
        recent_login=True,
        body=NewIdentity,
        answers={200: LinkedIdentity, 201: LinkedIdentity},
        problems=(
            "email_unverified",
            "invalid_id_token",
            "identity_taken",
            "too_many_identities",
            "issuer_unavailable",
            "unavailable",
        ),
    ),
    Operation(
        method="DELETE",
        path="/v1/auth/identities/{id}",
        handler=unlink,
        tag="Identity",
        summary="Remove an identity from the account",
        login=True,
        scope="account",
        recent_login=True,
        parameters=(
            Parameter(name="id", where="path", description="The identity's id here.", type=UUID, required=True),
        ),
        answers={204: None},
        problems=("last_way_in", "unavailable"),
    ),
    Operation(
        method="GET",
        path="/v1/auth/oidc/{provider}/login",
        handler=begin,
        tag="Pages",
        summary="Send a browser to sign in with a provider",
        description=(
            "An app opens this in the system's browser, with `next` the path and query of its own authorization request at "
            "`/v1/oauth/authorize`; from there it gets its code. No token is ever in an address."
        ),
        parameters=(
            _PROVIDER,
            Parameter(name="next", where="query", description="The page of ours to go on to.", required=True),
        ),
        answers={303: None, 404: HTML, 429: HTML, 503: HTML},
        limits=("nonce",),
    ),
    Operation(
        method="GET",
        path=_CALLBACK,
        handler=returned,
        tag="Pages",
        summary="Where a provider sends a browser back to",
        parameters=(_PROVIDER,),
        answers={303: None, 404: HTML, 409: HTML, 422: HTML, 503: HTML},
        limits=("code",),
    ),
    Operation(
        method="POST",
        path=_CALLBACK,
        handler=returned_by_form,
        tag="Pages",
        summary="The same, for providers that answer by a form (Apple)",
        parameters=(_PROVIDER,),
        body=FORM,
        answers={303: None, 404: HTML, 409: HTML, 422: HTML, 503: HTML},
        limits=("code",),
    ),
)
