"""The login on our own pages: for the consent page and the device page, which lead here and are led back to."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from fitness_api import browser_logins, pages
from fitness_api.browser_logins import LOGIN, visitor
from fitness_api.identity.accounts import MAX_EMAIL, MAX_PASSWORD, counted_as
from fitness_api.identity.errors import GrantInvalid, InvalidCredentials, MfaRequired, SecondFactorRefused
from fitness_api.identity.factors.completion import RecoveryCode, TotpCode
from fitness_api.identity.logins import PENDING_MS
from fitness_api.identity.scopes import PAGES
from fitness_api.operation import Media, Operation, Parameter
from fitness_api.origins import origin_of
from fitness_api.pages import browser
from fitness_api.pages.markup import markup
from fitness_api.resources import Resources

MAX_CODE: Final = 64  # a recovery code, with whatever it is grouped by

HTML: Final = Media(types=("text/html",))
FORM: Final = Media(types=("application/x-www-form-urlencoded",))


@browser_logins.page
async def show_login(request: Request[Resources]) -> Response:
    way_back = browser_logins.way_back(request.query_params.get("next", ""))
    if await visitor(request) is not None:
        return browser_logins.to(way_back)
    return _login(request, way_back)


@browser_logins.page
async def log_in(request: Request[Resources]) -> Response:
    form = await pages.read_form(request)
    way_back = browser_logins.way_back(form.get("next", ""))
    email = form.get("email", "")[: MAX_EMAIL + 1]  # what is counted is what is tried
    limits = request.state["limits"]
    address = counted_as(email)
    await limits.require("login", address)
    try:
        pair = await request.state["logins"].login(
            email=email,
            password=form.get("password", "")[: MAX_PASSWORD + 1],
            client_id=PAGES,
            origin=origin_of(request),
            is_known_device=limits.knows(address),
        )
    except InvalidCredentials:
        return _login(request, way_back, email=email, error="The address or the password is wrong.")
    except MfaRequired as required:
        return browser_logins.put_off(request, required.mfa_token, way_back, max_age_s=PENDING_MS // 1_000)
    response = browser_logins.begin(request, pair, way_back)
    for name, cookie in limits.remember(address).items():
        response.headers.append(name, cookie)
    return response


@browser_logins.page
async def show_second_factor(request: Request[Resources]) -> Response:
    way_back = browser_logins.way_back(request.query_params.get("next", ""))
    mfa_token = browser.cookie(request, browser.MFA)
    if mfa_token is None:
        return browser_logins.to(browser_logins.login_page(way_back))
    try:
        ways = await request.state["completion"].ways(mfa_token)
    except GrantInvalid:
        return _begin_again(request, way_back)
    return _second_factor(request, way_back, ways)


@browser_logins.page
async def show_code(request: Request[Resources]) -> Response:
    """What is typed is an app's code where it has six figures, else a recovery code, which has more."""
    form = await pages.read_form(request)
    way_back = browser_logins.way_back(form.get("next", ""))
    await request.state["limits"].require("mfa")
    mfa_token = browser.cookie(request, browser.MFA) or ""
    typed = form.get("code", "")[:MAX_CODE]
    figures = "".join(typed.split())
    shown = TotpCode(figures) if len(figures) == 6 and figures.isdecimal() else RecoveryCode(typed)
    completion = request.state["completion"]
    try:
        completed = await completion.complete(mfa_token, shown, client_id=PAGES, origin=origin_of(request))
    except SecondFactorRefused:
        try:
            ways = await completion.ways(mfa_token)
        except GrantInvalid:
            return _begin_again(request, way_back)
        return _second_factor(request, way_back, ways, error="This code is wrong, or was used before.")
    except GrantInvalid:
        return _begin_again(request, way_back)
    return browser_logins.begin(request, completed, way_back)


@browser_logins.page
async def log_out(request: Request[Resources]) -> Response:
    form = await pages.read_form(request)
    way_back = browser_logins.way_back(form.get("next", ""))
    if (principal := await visitor(request)) is not None:
        await request.state["sessions"].revoke(principal.user_id, principal.session_id)
    response = browser_logins.to(browser_logins.login_page(way_back))
    browser.drop_cookie(request, response, browser.LOGIN)
    return response


def _begin_again(request: Request[Resources], way_back: str) -> Response:
    response = browser_logins.to(browser_logins.login_page(way_back))
    browser.drop_cookie(request, response, browser.MFA)
    return response


def _second_factor(request: Request[Resources], way_back: str, ways: tuple[str, ...], *, error: str = "") -> Response:
    hint = {
        (True, True): "From your authenticator app, or one of your recovery codes.",
        (True, False): "From your authenticator app.",
        (False, True): "One of your recovery codes.",
    }.get(("totp" in ways, "recovery_code" in ways))
    body = markup("<p>Log in to the app with your passkey, and begin again there.</p>")
    if hint is not None:
        code = pages.field(
            "code",
            "Code",
            hint=hint,
            error=error,
            autocomplete="one-time-code",
            attributes={"class": "code", "maxlength": str(MAX_CODE), "autocapitalize": "none", "spellcheck": "false"},
        )
        body = pages.form(
            request, browser_logins.SECOND_FACTOR, pages.hidden("next", way_back), code, pages.button("Continue")
        )
    return pages.render(request, "One more step", body, status=403 if error else 200)


def _login(request: Request[Resources], way_back: str, *, email: str = "", error: str = "") -> Response:
    body = pages.form(
        request,
        LOGIN,
        pages.hidden("next", way_back),
        pages.field(
            "email",
            "Email address",
            kind="email",
            value=email[:MAX_EMAIL],
            autocomplete="username",
            attributes={"maxlength": str(MAX_EMAIL)},
        ),
        pages.field("password", "Password", kind="password", error=error, autocomplete="current-password"),
        pages.button("Log in"),
    )
    # Not 401: that asks for an Authorization header.
    return pages.render(request, "Log in", body, status=403 if error else 200)


_NEXT: Final = Parameter(name="next", where="query", description="The page of ours to go on to.", required=True)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="GET",
        path=LOGIN,
        handler=show_login,
        tag="Pages",
        summary="The login page",
        parameters=(_NEXT,),
        answers={200: HTML, 303: None},
    ),
    Operation(
        method="POST",
        path=LOGIN,
        handler=log_in,
        tag="Pages",
        summary="What the login page sends",
        body=FORM,
        answers={303: None, 403: HTML, 429: HTML, 503: HTML},
    ),
    Operation(
        method="GET",
        path=browser_logins.SECOND_FACTOR,
        handler=show_second_factor,
        tag="Pages",
        summary="The page for a second factor",
        parameters=(_NEXT,),
        answers={200: HTML, 303: None},
    ),
    Operation(
        method="POST",
        path=browser_logins.SECOND_FACTOR,
        handler=show_code,
        tag="Pages",
        summary="What the page for a second factor sends",
        body=FORM,
        answers={303: None, 403: HTML, 429: HTML, 503: HTML},
    ),
    Operation(
        method="POST",
        path="/v1/oauth/logout",
        handler=log_out,
        tag="Pages",
        summary="What a page sends to log another account in",
        body=FORM,
        answers={303: None, 403: HTML, 503: HTML},
    ),
)
