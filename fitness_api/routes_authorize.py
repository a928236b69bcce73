"""The authorization endpoint: a client asks, a user decides on our page or in our app, the client gets a code."""

from typing import Annotated, Final
from urllib.parse import parse_qsl, urlsplit

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import bodies, browser_logins, pages
from fitness_api.browser_logins import AskedScope, approval_of, in_words, require_verified, scope_list, visitor
from fitness_api.errors import InsufficientScope, MalformedBody
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.accounts import Account
from fitness_api.identity.authorization import asking
from fitness_api.identity.authorization.asking import MAX_PARAMETERS, MAX_VALUE, Asked, Refused, Untrusted
from fitness_api.identity.errors import AuthorizationRequestInvalid
from fitness_api.operation import Media, Operation, Parameter
from fitness_api.origins import origin_of
from fitness_api.pages.markup import Markup, join, markup
from fitness_api.resources import Resources

PATH: Final = "/v1/oauth/authorize"
CONSENT: Final = "/v1/oauth/consent"

HTML: Final = Media(types=("text/html",))
FORM: Final = Media(types=("application/x-www-form-urlencoded",))

Value = Annotated[str, Meta(max_length=MAX_VALUE)]


class AuthorizationDecision(Struct, frozen=True, kw_only=True):
    """The parameters of the request as the client sent them, and what the user decided. Without `approve` it tells what is asked."""

    client_id: Value
    redirect_uri: Value
    response_type: Value | UnsetType = UNSET
    response_mode: Value | UnsetType = UNSET
    scope: Value | UnsetType = UNSET
    state: Value | UnsetType = UNSET
    code_challenge: Value | UnsetType = UNSET
    code_challenge_method: Value | UnsetType = UNSET
    approve: bool | UnsetType = UNSET


class AuthorizationQuestion(Struct, frozen=True, kw_only=True):
    """What to ask the user."""

    client_id: str
    client_name: str
    scopes: list[AskedScope]


class AuthorizationAnswer(Struct, frozen=True, kw_only=True):
    """Open redirect_to in the browser, or hand it to the app whose scheme it has: it may carry an error, which is the client's to read.

    asked: instead, what to ask the user, where nothing was decided.
    """

    redirect_to: str | UnsetType = UNSET
    asked: AuthorizationQuestion | UnsetType = UNSET


@browser_logins.page
async def authorize(request: Request[Resources]) -> Response:
    asked = await _asked(request, request.url.query)
    if isinstance(asked, Refused):
        return _back(request, asked)
    principal = await visitor(request)
    if principal is None:
        return browser_logins.asked_first(request)
    account = await request.state["accounts"].account(principal.user_id)
    await require_verified(request, principal, asked.client.client_id)
    return pages.render(
        request,
        f"Allow {asked.client.name} to use your account?",
        _question(request, asked, account),
        form_targets=(asking.form_target(asked.redirect_uri),),
    )


@browser_logins.page
async def consent(request: Request[Resources]) -> Response:
    form = await pages.read_form(request)
    query = form.get("request", "")
    asked = await _asked(request, query)
    if isinstance(asked, Refused):
        return _back(request, asked)
    principal = await visitor(request)
    if principal is None:
        return browser_logins.to(browser_logins.login_page(browser_logins.way_back(f"{PATH}?{query}")))
    await require_verified(request, principal, asked.client.client_id)
    if form.get("decision") != "allow":
        return _back(request, asking.denied(asked))
    code = await request.state["codes"].issue(asked, approval_of(principal), origin=origin_of(request))
    return browser_logins.to(asking.with_code(asked, code, issuer=_issuer(request)))


async def decide(request: Request[Resources], principal: Principal) -> Response:
    browser_logins.require_first_party(principal)
    body = await bodies.read(request, AuthorizationDecision)
    given = {name: value for name, value in msgspec.structs.asdict(body).items() if isinstance(value, str)}
    asked = asking.read(given, await request.state["registrations"].client(body.client_id))
    if isinstance(asked, Untrusted):
        raise AuthorizationRequestInvalid(asked.detail)
    issuer = _issuer(request)
    if isinstance(asked, Refused):
        return bodies.respond(request, AuthorizationAnswer(redirect_to=asking.with_error(asked, issuer=issuer)))
    if isinstance(body.approve, UnsetType):
        return bodies.respond(request, AuthorizationAnswer(asked=_described(asked)))
    if not body.approve:
        denied = asking.with_error(asking.denied(asked), issuer=issuer)
        return bodies.respond(request, AuthorizationAnswer(redirect_to=denied))
    await require_verified(request, principal, asked.client.client_id)
    for scope in asked.scopes:
        if scope not in principal.scopes:
            raise InsufficientScope(scope)  # nobody gives what he has not
    code = await request.state["codes"].issue(asked, approval_of(principal), origin=origin_of(request))
    return bodies.respond(request, AuthorizationAnswer(redirect_to=asking.with_code(asked, code, issuer=issuer)))


async def _asked(request: Request[Resources], query: str) -> Asked | Refused:
    """Raises AuthorizationRequestInvalid: shown here, as nothing may be sent to where such a request says."""
    try:
        pairs = parse_qsl(query, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError as error:
        raise MalformedBody("The request is not of text, or has too many parameters.") from error
    parameters, twice = asking.unique(pairs)
    client_id = parameters.get("client_id", "")
    client = await request.state["registrations"].client(client_id) if len(client_id) <= MAX_VALUE else None
    asked = asking.read(parameters, client, twice=twice)
    if isinstance(asked, Untrusted):
        raise AuthorizationRequestInvalid(asked.detail)
    return asked


def _back(request: Request[Resources], refused: Refused) -> Response:
    return browser_logins.to(asking.with_error(refused, issuer=_issuer(request)))


def _question(request: Request[Resources], asked: Asked, account: Account | None) -> Markup:
    here = f"{PATH}?{request.url.query}"
    return join(
        [
            markup("<p>You are logged in as <strong>{email}</strong>.</p>", email=account.email if account else ""),
            markup("<h2>{name} will be able to</h2>", name=asked.client.name),
            scope_list(asked.scopes),
            markup(
                '<p class="quiet-text">The answer goes to <strong>{place}</strong>. You can end this at any time among your logins in the '
                "app.</p>",
                place=_place(asked.redirect_uri),
            ),
            pages.form(
                request,
                CONSENT,
                pages.hidden("request", request.url.query),
                pages.button("Allow", name="decision", value="allow"),
                pages.button("Do not allow", name="decision", value="deny", quiet=True),
            ),
            pages.form(
                request,
                "/v1/oauth/logout",
                pages.hidden("next", here),
                pages.button("Use another account", quiet=True),
            ),
        ]
    )


def _place(redirect_uri: str) -> str:
    """Return what a user can recognise of where the answer goes."""
    parts = urlsplit(redirect_uri)
    match parts.scheme:
        case "https":
            return parts.netloc
        case "http":
            return "an app on this computer"
        case scheme:
            return f"the app {scheme}"


def _described(asked: Asked) -> AuthorizationQuestion:
    return AuthorizationQuestion(
        client_id=asked.client.client_id,
        client_name=asked.client.name,
        scopes=in_words(asked.scopes),
    )


def _issuer(request: Request[Resources]) -> str:
    return request.state["settings"].public_url.rstrip("/")


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="GET",
        path=PATH,
        handler=authorize,
        tag="OAuth",
        summary="Ask the user to allow a client something",
        description=(
            "RFC 6749 section 4.1, with PKCE by S256 only: open this in the system's browser. The user logs in, sees what the "
            "client asks for, and is sent on to redirect_uri with code, state and iss (RFC 9207), or with error, state and iss. "
            "A code holds for 60 seconds and once. Where redirect_uri is not the client's own, a page says so and nothing is sent."
        ),
        parameters=tuple(
            Parameter(name=name, where="query", description=description, required=required)
            for name, description, required in (
                ("client_id", "As answered at registration.", True),
                (
                    "redirect_uri",
                    "One of those registered, letter by letter; a loopback address may have any port.",
                    True,
                ),
                ("response_type", "`code`.", True),
                ("code_challenge", "SHA-256 of the verifier in base64url.", True),
                ("code_challenge_method", "`S256`.", True),
                ("scope", "Space-separated; left out, all that the client was registered for.", False),
                ("state", "Given back as it is.", False),
            )
        ),
        answers={200: HTML, 303: None, 400: HTML, 403: HTML, 503: HTML},
    ),
    Operation(
        method="POST",
        path=PATH,
        handler=decide,
        tag="OAuth",
        summary="Decide, in our own app, what a client asks for",
        description="For a token of our own app. What is refused for the client's fault is in redirect_to.",
        login=True,
        scope="account",
        body=AuthorizationDecision,
        answers={200: AuthorizationAnswer},
        problems=(
            "authorization_request_invalid",
            "email_unverified",
            "first_party_only",
            "unavailable",
        ),
    ),
    Operation(
        method="POST",
        path=CONSENT,
        handler=consent,
        tag="Pages",
        summary="What the consent page sends",
        body=FORM,
        answers={303: None, 400: HTML, 403: HTML, 503: HTML},
    ),
)
