"""The login on our own pages: for the consent page and the device page, which lead here and are led back to."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from msgspec import DecodeError, json
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import browser_logins, pages
from fitness_api.browser_logins import LOGIN, PASSKEY_LOGIN, SECOND_FACTOR, visitor
from fitness_api.identity.accounts import MAX_EMAIL, MAX_PASSWORD, counted_as
from fitness_api.identity.errors import (
    GrantInvalid,
    InvalidCredentials,
    MfaRequired,
    NoSecondFactor,
    PasskeyRefused,
    SecondFactorRefused,
)
from fitness_api.identity.factors.completion import RecoveryCode, Shown, TotpCode
from fitness_api.identity.factors.passkeys import Assertion
from fitness_api.identity.logins import PENDING_MS
from fitness_api.identity.scopes import PAGES
from fitness_api.operation import Media, Operation, Parameter
from fitness_api.origins import origin_of
from fitness_api.pages import Markup, browser, markup
from fitness_api.pages.passkey import ANSWER, SCRIPT
from fitness_api.resources import Resources

MAX_CODE: Final = 64  # a recovery code, with whatever it is grouped by
PASSKEY_FAILED: Final = "That passkey is not known here, or did not answer in time."

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
    is_known_device = limits.knows(address)
    try:
        with request.state["logins"].admitted(is_known_device=is_known_device):
            await limits.require("login", address)
            pair = await request.state["logins"].login(
                email=email,
                password=form.get("password", "")[: MAX_PASSWORD + 1],
                client_id=PAGES,
                origin=origin_of(request),
                is_known_device=is_known_device,
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
async def log_in_by_passkey(request: Request[Resources]) -> Response:
    form = await pages.read_form(request)
    way_back = browser_logins.way_back(form.get("next", ""))
    try:
        completed = await request.state["completion"].passkey_login(
            _assertion(form), client_id=PAGES, origin=origin_of(request)
        )
    except PasskeyRefused:
        return _login(request, way_back, failure=PASSKEY_FAILED)
    return await browser_logins.begin_remembered(request, completed, way_back)


@browser_logins.page
async def show_second_factor(request: Request[Resources]) -> Response:
    return await _second_factor(request, browser_logins.way_back(request.query_params.get("next", "")))


@browser_logins.page
async def show_code(request: Request[Resources]) -> Response:
    """Take a code, or a passkey's answer."""
    form = await pages.read_form(request)
    way_back = browser_logins.way_back(form.get("next", ""))
    mfa_token = browser.cookie(request, browser.MFA) or ""
    try:
        completed = await request.state["completion"].complete(
            mfa_token, _shown(form), client_id=PAGES, origin=origin_of(request)
        )
    except PasskeyRefused:
        return await _second_factor(request, way_back, failure=PASSKEY_FAILED)
    except SecondFactorRefused:
        return await _second_factor(request, way_back, error="This code is wrong, or was used before.")
    except GrantInvalid:
        return _begin_again(request, way_back)
    return await browser_logins.begin_remembered(request, completed, way_back)


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


def _shown(form: Mapping[str, str]) -> Shown:
    """What is typed is an app's code where it has six figures, else a recovery code, which has more."""
    if form.get(ANSWER):
        return _assertion(form)
    typed = form.get("code", "")[:MAX_CODE]
    figures = "".join(typed.split())
    return TotpCode(figures) if len(figures) == 6 and figures.isdecimal() else RecoveryCode(typed)


def _assertion(form: Mapping[str, str]) -> Assertion:
    """Raises PasskeyRefused if the form carries no passkey's answer."""
    try:
        return json.decode(form.get(ANSWER, ""), type=Assertion)
    except (DecodeError, UnicodeError, RecursionError):
        raise PasskeyRefused from None


async def _second_factor(request: Request[Resources], way_back: str, *, error: str = "", failure: str = "") -> Response:
    """Ask for what the account has. `error` is the code's, `failure` anything else's."""
    mfa_token = browser.cookie(request, browser.MFA)
    if mfa_token is None:
        return browser_logins.to(browser_logins.login_page(way_back))
    completion = request.state["completion"]
    try:
        ways = await completion.ways(mfa_token)
        options = await completion.passkey_options(mfa_token) if "passkey" in ways else None
    except (GrantInvalid, NoSecondFactor):
        return _begin_again(request, way_back)
    parts = [pages.failure(failure)] if failure else []
    if options is not None:
        asked = json.encode(options).decode()
        back = pages.hidden("next", way_back)
        parts.append(pages.passkey(request, SECOND_FACTOR, "Use a passkey", back, options=asked, quiet=False))
    hint = {
        (True, True): "From your authenticator app, or one of your recovery codes.",
        (True, False): "From your authenticator app.",
        (False, True): "One of your recovery codes.",
    }.get(("totp" in ways, "recovery_code" in ways))
    if hint is None:
        parts.append(markup("<p>Without a passkey here, log in on the device that has it.</p>"))
    else:
        parts.append(_code_form(request, way_back, hint, error=error, quiet=options is not None))
    status = 403 if error or failure else 200
    return pages.render(request, "One more step", pages.join(parts), status=status, scripts=(SCRIPT,))


def _code_form(request: Request[Resources], way_back: str, hint: str, *, error: str, quiet: bool) -> Markup:
    code = pages.field(
        "code",
        "Code",
        hint=hint,
        error=error,
        autocomplete="one-time-code",
        attributes={"class": "code", "maxlength": str(MAX_CODE), "autocapitalize": "none", "spellcheck": "false"},
    )
    return pages.form(
        request, SECOND_FACTOR, pages.hidden("next", way_back), code, pages.button("Continue", quiet=quiet)
    )


def _login(
    request: Request[Resources], way_back: str, *, email: str = "", error: str = "", failure: str = ""
) -> Response:
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
    passkey = pages.passkey(
        request,
        PASSKEY_LOGIN,
        "Log in with a passkey",
        pages.hidden("next", way_back),
        options_url="/v1/auth/passkeys/login/options",
    )
    forgotten = pages.markup('<p><a href="{path}">Forgotten password</a></p>', path=FORGOTTEN)
    elsewhere = [_elsewhere(name, way_back) for name in request.state["redirects"].names]
    parts = [*([pages.failure(failure)] if failure else []), body, passkey, *elsewhere, forgotten]
    # Not 401: that asks for an Authorization header.
    status = 403 if error or failure else 200
    return pages.render(request, "Log in", pages.join(parts), status=status, scripts=(SCRIPT,))


# Where who forgot it asks for a link: `routes_recovery_pages`.
FORGOTTEN: Final = "/account/forgot"


def _elsewhere(provider: str, way_back: str) -> Markup:
    return pages.markup(
        '<p><a href="{path}">Continue with {name}</a></p>',
        path=f"/v1/auth/oidc/{provider}/login?{urlencode({'next': way_back})}",
        name=provider.capitalize(),
    )


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
        method="POST",
        path=PASSKEY_LOGIN,
        handler=log_in_by_passkey,
        tag="Pages",
        summary="What the login page's passkey button sends",
        limits=("code",),
        body=FORM,
        answers={303: None, 403: HTML, 429: HTML, 503: HTML},
    ),
    Operation(
        method="GET",
        path=SECOND_FACTOR,
        handler=show_second_factor,
        tag="Pages",
        summary="The page for a second factor",
        limits=("nonce",),
        parameters=(_NEXT,),
        answers={200: HTML, 303: None},
    ),
    Operation(
        method="POST",
        path=SECOND_FACTOR,
        handler=show_code,
        tag="Pages",
        summary="What the page for a second factor sends",
        limits=("mfa",),
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
