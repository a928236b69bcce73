"""The device grant: a watch asks for a code, its user allows it on our page or in our app. Source: RFC 8628."""

from typing import Annotated, Final
from urllib.parse import urlencode

from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import bodies, browser_logins, pages
from fitness_api.browser_logins import AskedScope, approval_of, in_words, require_verified, scope_list, visitor
from fitness_api.errors import InsufficientScope, NotFound
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.authorization import device_grants
from fitness_api.identity.authorization.clients import DEVICE_CODE, Client
from fitness_api.identity.authorization.device_grants import DeviceGrant
from fitness_api.oauth_answers import (
    FORM,
    NOT_STORED,
    REFUSALS,
    client_of,
    form_of,
    in_oauths_words,
    limits_refusal,
    require_grant,
    scopes_of,
)
from fitness_api.operation import Media, Operation, Parameter
from fitness_api.origins import origin_of
from fitness_api.pages.markup import Markup, join, markup
from fitness_api.resources import Resources

PATH: Final = "/v1/oauth/device"
DECISION: Final = "/v1/oauth/device/decision"

HTML: Final = Media(types=("text/html",))


class DeviceAuthorization(Struct, frozen=True, kw_only=True):
    """RFC 8628 section 3.2. Poll the token endpoint with device_code, `interval` seconds apart."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


class DeviceDecision(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the user typed, in any case and grouping, and decided. Without `approve` it tells what is asked."""

    user_code: Annotated[str, Meta(max_length=device_grants.MAX_TYPED)]
    approve: bool | UnsetType = UNSET


class DeviceQuestion(Struct, frozen=True, kw_only=True):
    """What to show the user, and ask whether he started this. `place` is the address block that the device asked from."""

    client_id: str
    client_name: str
    user_agent: str
    place: str
    requested_at: str
    expires_at: str
    scopes: list[AskedScope]


@in_oauths_words
async def begin(request: Request[Resources]) -> Response:
    form = await form_of(request)
    client = await client_of(request, form)
    require_grant(client, DEVICE_CODE)
    begun = await request.state["device_grants"].begin(client, scopes_of(form), origin=origin_of(request))
    page = f"{request.state['settings'].public_url.rstrip('/')}{PATH}"
    answer = DeviceAuthorization(
        device_code=begun.device_code,
        user_code=begun.user_code,
        verification_uri=page,
        verification_uri_complete=f"{page}?{urlencode({'user_code': begun.user_code})}",
        expires_in=begun.expires_in_s,
        interval=begun.interval_s,
    )
    return bodies.respond(request, answer, headers=NOT_STORED)


async def decide(request: Request[Resources], principal: Principal) -> Response:
    browser_logins.require_first_party(principal)
    body = await bodies.read(request, DeviceDecision)
    await request.state["limits"].require("user_code", principal.user_id)
    grant, client = await _waiting(request, body.user_code)
    if isinstance(body.approve, UnsetType):
        return bodies.respond(request, _described(grant, client))
    if body.approve:
        await require_verified(request, principal, client.client_id)
        for scope in grant.scopes:
            if scope not in principal.scopes:
                raise InsufficientScope(scope)  # nobody gives what he has not
    await _decide(request, principal, body.user_code, client, approve=body.approve)
    return Response(status_code=204)


@browser_logins.page
async def show_device(request: Request[Resources]) -> Response:
    principal = await visitor(request)
    if principal is None:
        return browser_logins.asked_first(request)
    typed = request.query_params.get("user_code", "")
    if not typed:
        return _typing(request)
    await request.state["limits"].require("user_code", principal.user_id)
    try:
        grant, client = await _waiting(request, typed)
    except NotFound:
        return _typing(request, typed=typed, error="No device waits by this code. It may have expired, or been used.")
    return pages.render(request, "Log this device in?", _question(request, grant, client, typed))


@browser_logins.page
async def decide_on_page(request: Request[Resources]) -> Response:
    form = await pages.read_form(request)
    principal = await visitor(request)
    typed = form.get("user_code", "")
    if principal is None:
        return browser_logins.to(browser_logins.login_page(f"{PATH}?{urlencode({'user_code': typed})}"))
    approve = form.get("decision") == "allow"
    await request.state["limits"].require("user_code", principal.user_id)
    try:
        grant, client = await _waiting(request, typed)
        if approve:
            await require_verified(request, principal, grant.client_id)
        await _decide(request, principal, typed, client, approve=approve)
    except NotFound:
        return _typing(request, error="The code has expired, or was used. Let the device show a new one.")
    if approve:
        return pages.render(request, "The device is logged in", markup("<p>You can close this page.</p>"))
    return pages.render(
        request,
        "The device is not logged in",
        markup("<p>Nothing was allowed. If somebody sent you the code, do not use it again.</p>"),
    )


async def _waiting(request: Request[Resources], typed: str) -> tuple[DeviceGrant, Client]:
    """Raises NotFound."""
    grant = await request.state["device_grants"].waiting(typed)
    client = await request.state["registrations"].client(grant.client_id)
    if client is None:
        raise NotFound("client any more")
    return grant, client


async def _decide(
    request: Request[Resources], principal: Principal, typed: str, client: Client, *, approve: bool
) -> None:
    await request.state["device_grants"].decide(
        typed, approval_of(principal), approve=approve, client_name=client.name, origin=origin_of(request)
    )


def _typing(request: Request[Resources], *, typed: str = "", error: str = "") -> Response:
    field = pages.field(
        "user_code",
        "Code that the device shows",
        value=typed[: device_grants.MAX_TYPED],
        hint="Eight letters, such as BCDF-GHJK.",
        error=error,
        autocomplete="one-time-code",
        attributes={"class": "code", "maxlength": "32", "autocapitalize": "characters", "spellcheck": "false"},
    )
    form = markup(
        '<form method="get" action="{path}">{field}{button}</form>',
        path=PATH,
        field=field,
        button=pages.button("Continue"),
    )
    return pages.render(request, "Log a device in", form, status=404 if error else 200)


def _question(request: Request[Resources], grant: DeviceGrant, client: Client, typed: str) -> Markup:
    shown = device_grants.shown(device_grants.read(typed) or "")
    return join(
        [
            markup(
                "<p><strong>Did you start this</strong>, just now, on a device that is yours? If somebody sent you the code or a "
                "link, do not go on: they would get into your account.</p>"
            ),
            markup(
                '<dl><dt>The device shows</dt><dd class="user-code">{code}</dd><dt>App</dt><dd>{name}</dd><dt>Device</dt>'
                "<dd>{agent}</dd><dt>Where (its network)</dt><dd>{place}</dd></dl>",
                code=shown,
                name=client.name,
                agent=grant.user_agent or "not known",
                place=grant.place or "not known",
            ),
            markup("<h2>It will be able to</h2>"),
            scope_list(grant.scopes),
            pages.form(
                request,
                DECISION,
                pages.hidden("user_code", typed),
                pages.button("Yes, log it in", name="decision", value="allow"),
                pages.button("No, that was not me", name="decision", value="deny", quiet=True),
            ),
        ]
    )


def _described(grant: DeviceGrant, client: Client) -> DeviceQuestion:
    return DeviceQuestion(
        client_id=client.client_id,
        client_name=client.name,
        user_agent=grant.user_agent,
        place=grant.place,
        requested_at=bodies.rfc3339(grant.created_at_ms),
        expires_at=bodies.rfc3339(grant.expires_at_ms),
        scopes=in_words(grant.scopes),
    )


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/v1/oauth/device_authorization",
        handler=begin,
        tag="OAuth",
        summary="Get a code by which a user logs a device in",
        description=(
            "RFC 8628: what authenticates the client, and perhaps scope. Show user_code and verification_uri. The scope `account` is "
            "never given to a device."
        ),
        body=FORM,
        answers={200: DeviceAuthorization, **REFUSALS},
        problems=("unavailable",),
        limits=("device_authorization",),
        if_limited=limits_refusal,
    ),
    Operation(
        method="GET",
        path=PATH,
        handler=show_device,
        tag="Pages",
        summary="The page where a user types a device's code",
        parameters=(
            Parameter(name="user_code", where="query", description="Fills it in; the user is asked all the same."),
        ),
        answers={200: HTML, 303: None, 404: HTML, 429: HTML, 503: HTML},
    ),
    Operation(
        method="POST",
        path=PATH,
        handler=decide,
        tag="OAuth",
        summary="Log a device in, or refuse to, in our own app",
        description=(
            "For a token of our own app. Send it without `approve` first and show the user what it tells: "
            "a code may have come from somebody else."
        ),
        login=True,
        scope="account",
        body=DeviceDecision,
        answers={200: DeviceQuestion, 204: None},
        problems=("email_unverified", "first_party_only", "not_found", "unavailable"),
    ),
    Operation(
        method="POST",
        path=DECISION,
        handler=decide_on_page,
        tag="Pages",
        summary="What the device page sends",
        body=FORM,
        answers={200: HTML, 303: None, 403: HTML, 404: HTML, 429: HTML, 503: HTML},
    ),
)
