"""The pages behind the links in our mails: a link shows a button, and only the button does something.

Mail programs and scanners follow links by themselves; none of them sends a form.
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from fitness_api import browser_logins, pages
from fitness_api.errors import InvalidBody
from fitness_api.identity.accounts import MIN_PASSWORD
from fitness_api.identity.errors import EmailTaken, LinkInvalid, WeakPassword
from fitness_api.operation import Media, Operation, Parameter
from fitness_api.origins import origin_of
from fitness_api.pages import Markup, markup
from fitness_api.resources import Resources
from fitness_api.routes_login import FORGOTTEN
from fitness_api.routes_recovery import require_of_address

_VERIFY: Final = "/account/verify"
_RESET: Final = "/account/reset"
_FORGOT: Final = FORGOTTEN

_GONE: Final = "This link was used before or has expired. Ask for another one, in the app or below."


async def verify_page(request: Request[Resources]) -> Response:
    body = pages.form(
        request,
        _VERIFY,
        markup("<p>Press the button if it was you who asked for this mail. If it was not, close this page.</p>"),
        pages.hidden("token", request.query_params.get("token", "")),
        pages.button("Confirm the address"),
    )
    return pages.render(request, "Confirm your address", body)


@browser_logins.page
async def verify(request: Request[Resources]) -> Response:
    form = await pages.read_form(request)
    try:
        await request.state["recovery"].confirm(form.get("token", ""), origin=origin_of(request))
    except LinkInvalid:
        return pages.render(request, "Confirm your address", pages.failure(_GONE), status=400)
    except EmailTaken:
        text = "Another account has this address by now. Nothing was changed."
        return pages.render(request, "Confirm your address", pages.failure(text), status=409)
    return pages.render(request, "Thank you", markup("<p>The address is confirmed. You may close this page.</p>"))


async def reset_page(request: Request[Resources]) -> Response:
    return pages.render(
        request, "Choose a new password", _reset_form(request, request.query_params.get("token", ""), error="")
    )


@browser_logins.page
async def reset(request: Request[Resources]) -> Response:
    form = await pages.read_form(request)
    token = form.get("token", "")
    try:
        await request.state["recovery"].reset(token, form.get("password", ""), origin=origin_of(request))
    except LinkInvalid:
        body = pages.join((pages.failure(_GONE), _forgot_form(request, error="")))
        return pages.render(request, "Choose a new password", body, status=400)
    except WeakPassword as error:
        return pages.render(request, "Choose a new password", _reset_form(request, token, error=str(error)), status=422)
    except InvalidBody as error:
        body = _reset_form(request, token, error=" ".join(wrong.detail for wrong in error.errors))
        return pages.render(request, "Choose a new password", body, status=422)
    done = markup("<p>Your password is changed and all logins have ended. Log in with it in the app.</p>")
    return pages.render(request, "Done", done)


async def forgot_page(request: Request[Resources]) -> Response:
    return pages.render(request, "Forgotten password", _forgot_form(request, error=""))


@browser_logins.page
async def forgot(request: Request[Resources]) -> Response:
    form = await pages.read_form(request)
    try:
        await require_of_address(request, form.get("email", ""))
        await request.state["recovery"].ask_to_reset(form.get("email", ""))
    except InvalidBody as error:
        body = _forgot_form(request, error=" ".join(wrong.detail for wrong in error.errors))
        return pages.render(request, "Forgotten password", body, status=422)
    text = "<p>If there is an account with this address, a mail is on its way to it.</p>"
    return pages.render(request, "Look at your mail", markup(text))


def _reset_form(request: Request[Resources], token: str, *, error: str) -> Markup:
    return pages.form(
        request,
        _RESET,
        pages.hidden("token", token),
        pages.field(
            "password",
            "New password",
            kind="password",
            hint=f"At least {MIN_PASSWORD} characters. A few random words are good.",
            error=error,
            autocomplete="new-password",
        ),
        pages.button("Change the password"),
    )


def _forgot_form(request: Request[Resources], *, error: str) -> Markup:
    return pages.form(
        request,
        _FORGOT,
        pages.field("email", "Email address", kind="email", error=error, autocomplete="username"),
        pages.button("Send a link"),
    )


_HTML: Final = Media(types=("text/html",), description="A page for people.")
_TOKEN: Final = Parameter(name="token", where="query", description="As it stands in the mail's link.")

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="GET",
        path=_VERIFY,
        handler=verify_page,
        tag="Pages",
        summary="Ask whether to confirm an address",
        parameters=(_TOKEN,),
        answers={200: _HTML},
    ),
    Operation(
        method="POST",
        path=_VERIFY,
        handler=verify,
        tag="Pages",
        summary="Confirm an address",
        body=Media(types=("application/x-www-form-urlencoded",)),
        answers={200: _HTML, 400: _HTML, 409: _HTML},
        problems=("forged_form", "too_many_requests", "unavailable"),
        limits=("code",),
    ),
    Operation(
        method="GET",
        path=_RESET,
        handler=reset_page,
        tag="Pages",
        summary="Ask for a new password",
        parameters=(_TOKEN,),
        answers={200: _HTML},
    ),
    Operation(
        method="POST",
        path=_RESET,
        handler=reset,
        tag="Pages",
        summary="Set the new password",
        body=Media(types=("application/x-www-form-urlencoded",)),
        answers={200: _HTML, 400: _HTML, 422: _HTML},
        problems=("forged_form", "too_many_requests", "unavailable"),
        limits=("code",),
    ),
    Operation(
        method="GET",
        path=_FORGOT,
        handler=forgot_page,
        tag="Pages",
        summary="Ask which account's password was forgotten",
        answers={200: _HTML},
    ),
    Operation(
        method="POST",
        path=_FORGOT,
        handler=forgot,
        tag="Pages",
        summary="Have a link to choose a new password mailed",
        body=Media(types=("application/x-www-form-urlencoded",)),
        answers={200: _HTML, 422: _HTML},
        problems=("forged_form", "too_many_requests", "unavailable"),
        limits=("reset",),
    ),
)
