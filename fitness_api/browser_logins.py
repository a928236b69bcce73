"""Logins on our own pages: who is there, how one begins and ends, where it leads back to, and what a fault looks like."""

import re
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlencode

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import pages, problems
from fitness_api.errors import ApiError, NotAuthenticated, NoWayBack
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.authorization.device_grants import Approval
from fitness_api.identity.errors import AccountDeleted, EmailUnverified, FirstPartyOnly, IdentityError
from fitness_api.identity.factors.completion import Completed
from fitness_api.identity.scopes import FIRST_PARTY, PAGES
from fitness_api.identity.sessions import TokenPair
from fitness_api.limits.errors import LimitsError
from fitness_api.pages import browser
from fitness_api.pages.markup import join, markup
from fitness_api.remembering import remembered
from fitness_api.resources import Resources

LOGIN: Final = "/v1/oauth/login"
PASSKEY_LOGIN: Final = "/v1/oauth/login/passkey"
SECOND_FACTOR: Final = "/v1/oauth/second-factor"

# A login leads back to where it was asked for, and that is one of our own pages.
_WAYS_BACK: Final = re.compile(r"/v1/oauth/(authorize|device)(\?[!-~]*)?")
MAX_WAY_BACK: Final = 4_096

# What a user is told that a client may do.
SCOPES_IN_WORDS: Final = {
    "sync": "Read and change everything that your devices sync: workouts, routines, goals, measurements, food",
    "workouts:read": "See your workouts, with routes and heart rate, and your statistics",
    "workouts:write": "Add, change and delete your workouts",
    "live:publish": "Show live workouts in your name",
    "live:watch": "Watch live workouts that you may watch",
    "notifications": "Read your notifications and change your reminders",
    "account": "See and change your profile, your devices and where you are logged in",
}


class AskedScope(Struct, frozen=True, kw_only=True):
    """`description` is for people."""

    scope: str
    description: str


Handler = Callable[[Request[Resources]], Awaitable[Response]]


def page(handler: Handler) -> Handler:
    """Show what a handler refuses as a page."""

    async def shown(request: Request[Resources]) -> Response:
        try:
            return await handler(request)
        except (ApiError, IdentityError, LimitsError) as error:
            problem = problems.problem_of(error)
            said = str(error) if problem.status < 500 else problem.meaning
            headers = {name: text for name, text in problems.headers(problem, error).items() if name == "Retry-After"}
            body = join([markup("<p>{said}</p>", said=said), markup("<p>{remedy}</p>", remedy=_remedy(error))])
            return pages.render(request, problem.title, body, status=problem.status, headers=headers)

    return shown


async def visitor(request: Request[Resources]) -> Principal | None:
    """Return who is logged in on the pages in this browser, as the database has it now: pages are where access is given away."""
    token = browser.cookie(request, browser.LOGIN)
    if token is None:
        return None
    try:
        principal = await request.state["sessions"].authenticate(f"Bearer {token}", anew=True)
    except (NotAuthenticated, AccountDeleted):
        return None
    return principal if principal.client_id == PAGES else None


def begin(request: Request[Resources], pair: TokenPair, way_back: str) -> Response:
    """Answer a login that succeeded."""
    response = to(way_back)
    browser.set_cookie(request, response, browser.LOGIN, pair.access_token, max_age_s=pair.expires_in)
    browser.drop_cookie(request, response, browser.MFA)
    return response


async def begin_remembered(request: Request[Resources], completed: Completed, way_back: str) -> Response:
    """As `begin`; the browser is known again to the account's address, as after a login by password alone."""
    response = begin(request, completed.pair, way_back)
    for name, cookie in (await remembered(request, completed.user_id)).items():
        response.headers.append(name, cookie)
    return response


def put_off(request: Request[Resources], mfa_token: str, way_back: str, *, max_age_s: int) -> Response:
    """Answer a login that waits for its second factor."""
    response = to(f"{SECOND_FACTOR}?{urlencode({'next': way_back})}")
    browser.set_cookie(request, response, browser.MFA, mfa_token, max_age_s=max_age_s)
    return response


def asked_first(request: Request[Resources]) -> Response:
    """Send a browser to log in, and back here."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return to(login_page(way_back(here)))


def login_page(next_page: str) -> str:
    return f"{LOGIN}?{urlencode({'next': next_page})}"


def way_back(asked_for: str) -> str:
    """Return where to go after a login. Raises NoWayBack if that is no page of ours, as nobody is to be led away."""
    if len(asked_for) > MAX_WAY_BACK or not _WAYS_BACK.fullmatch(asked_for):
        raise NoWayBack
    return asked_for


def to(path: str) -> Response:
    """303: what is there is fetched by GET, and the form that led there is not sent on (RFC 9700 section 4.12)."""
    return Response(status_code=303, headers={"Location": path, "Cache-Control": "no-store"})


def approval_of(principal: Principal) -> Approval:
    return Approval(
        user_id=principal.user_id,
        session_id=principal.session_id,
        methods=principal.methods,
        authenticated_at_ms=principal.authenticated_at_s * 1_000,
    )


def require_first_party(principal: Principal) -> None:
    """Raises FirstPartyOnly: a client must not allow itself more."""
    if principal.client_id != FIRST_PARTY:
        raise FirstPartyOnly


async def require_verified(request: Request[Resources], principal: Principal, client_id: str) -> None:
    """Raises EmailUnverified, or NotAuthenticated. Our own app is none of the others that an account is to be kept from."""
    account = await request.state["accounts"].account(principal.user_id)
    if account is None:
        raise NotAuthenticated("The account is no more.")
    if client_id != FIRST_PARTY and not account.email_verified:
        raise EmailUnverified


def in_words(scopes: tuple[str, ...]) -> list[AskedScope]:
    return [AskedScope(scope=scope, description=SCOPES_IN_WORDS[scope]) for scope in scopes]


def scope_list(scopes: tuple[str, ...]) -> pages.Markup:
    items = join(markup("<li>{words}</li>", words=SCOPES_IN_WORDS[scope]) for scope in scopes)
    return markup("<ul>{items}</ul>", items=items)


def _remedy(error: Exception) -> str:
    match error:
        case EmailUnverified():
            return "Follow the link in the mail that we sent you, then go back to the app and begin again."
        case IdentityError() if problems.problem_of(error).status in {429, 503}:
            return "Wait a moment, then load this page again."
    return "If you came here from an app, go back to it and begin again."
