"""Proving and changing an address, getting a new password, and what happened to an account's security."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Final
from uuid import UUID

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import bodies
from fitness_api.errors import Invalid, InvalidBody
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.accounts import MAX_PASSWORD, MIN_PASSWORD, normalised_address
from fitness_api.identity.audit import AuditEvent
from fitness_api.operation import Operation, Parameter
from fitness_api.origins import origin_of
from fitness_api.resources import Resources
from fitness_api.routes_auth import LOGIN_LIMIT_BYTES, Email

# A link's secret, with room for what an app wraps around it by mistake.
_MAX_TOKEN: Final = 200
_ROOM: Final = 4  # for what is composed before it is measured

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
_MAX_AT_MS: Final = 2**53

Token = Annotated[str, Meta(min_length=1, max_length=_MAX_TOKEN)]
NewPassword = Annotated[
    str,
    Meta(
        max_length=MAX_PASSWORD * _ROOM,
        description=f"{MIN_PASSWORD} to {MAX_PASSWORD} characters of any kind, none of the passwords that are guessed first.",
    ),
]


class Address(Struct, frozen=True, kw_only=True):
    email: Email


class LinkToken(Struct, frozen=True, kw_only=True):
    """`token` of the link in a mail."""

    token: Token


class PasswordReset(Struct, frozen=True, kw_only=True):
    token: Token
    password: NewPassword


class PasswordChange(Struct, frozen=True, kw_only=True):
    """`current` is left out where the account has no password yet."""

    current: Annotated[str, Meta(max_length=MAX_PASSWORD * _ROOM)] | None = None
    new: NewPassword


class SecurityEvent(Struct, frozen=True, kw_only=True):
    """`address` and `user_agent` are those of the request that did it, empty where there was none."""

    id: str
    kind: str
    at: str
    address: str
    user_agent: str
    session_id: str | None
    details: dict[str, str]


class SecurityEvents(Struct, frozen=True, kw_only=True):
    """The newest first. `cursor`: for the next page, null at the end."""

    events: list[SecurityEvent]
    cursor: str | None


async def verify_email(request: Request[Resources]) -> Response:
    body = await bodies.read(request, LinkToken, limit_bytes=LOGIN_LIMIT_BYTES)
    await request.state["recovery"].confirm(body.token, origin=origin_of(request))
    return Response(status_code=204)


async def resend_verification(request: Request[Resources]) -> Response:
    body = await bodies.read(request, Address, limit_bytes=LOGIN_LIMIT_BYTES)
    await require_of_address(request, body.email)
    await request.state["recovery"].ask_to_verify(body.email)
    return Response(status_code=202)


async def change_email(request: Request[Resources], principal: Principal) -> Response:
    body = await bodies.read(request, Address, limit_bytes=LOGIN_LIMIT_BYTES)
    await require_of_address(request, body.email)
    await request.state["recovery"].ask_to_move(principal.user_id, body.email, origin=origin_of(request))
    return Response(status_code=202)


async def forgot_password(request: Request[Resources]) -> Response:
    body = await bodies.read(request, Address, limit_bytes=LOGIN_LIMIT_BYTES)
    await require_of_address(request, body.email)
    await request.state["recovery"].ask_to_reset(body.email)
    return Response(status_code=202)


async def require_of_address(request: Request[Resources], email: str) -> None:
    """Raises LimitsError if too many mails were asked for to this address, however it is spelled, or InvalidBody."""
    await request.state["limits"].require("reset", normalised_address(email))


async def reset_password(request: Request[Resources]) -> Response:
    body = await bodies.read(request, PasswordReset, limit_bytes=LOGIN_LIMIT_BYTES)
    await request.state["recovery"].reset(body.token, body.password, origin=origin_of(request))
    return Response(status_code=204)


async def change_password(request: Request[Resources], principal: Principal) -> Response:
    body = await bodies.read(request, PasswordChange, limit_bytes=LOGIN_LIMIT_BYTES)
    await request.state["recovery"].change_password(
        principal.user_id,
        session_id=principal.session_id,
        current=body.current,
        new=body.new,
        origin=origin_of(request),
    )
    return Response(status_code=204)


async def security_events(request: Request[Resources], principal: Principal) -> Response:
    limit = _limit(request.query_params.get("limit"))
    before = _place(request.query_params.get("cursor"))
    found = await request.state["audit"].of(principal.user_id, before=before, limit=limit + 1)
    shown = found[:limit]
    cursor = _cursor(shown[-1]) if len(found) > limit else None
    return bodies.respond(request, SecurityEvents(events=[_shown(event) for event in shown], cursor=cursor))


def _shown(event: AuditEvent) -> SecurityEvent:
    return SecurityEvent(
        id=event.event_id,
        kind=event.kind,
        at=bodies.rfc3339(event.at_ms),
        address=event.origin.address,
        user_agent=event.origin.user_agent,
        session_id=event.session_id,
        details=dict(event.details),
    )


def _cursor(event: AuditEvent) -> str:
    return urlsafe_b64encode(f"{event.at_ms}/{event.event_id}".encode()).decode().rstrip("=")


def _place(asked: str | None) -> tuple[int, str] | None:
    if not asked:
        return None
    try:
        at, _, event_id = urlsafe_b64decode(asked + "=" * (-len(asked) % 4)).decode().partition("/")
        place = int(at), str(UUID(event_id))
    except ValueError:
        raise InvalidBody(Invalid("", "cursor: not one that this list gave.")) from None
    if not 0 <= place[0] <= _MAX_AT_MS:
        raise InvalidBody(Invalid("", "cursor: not one that this list gave."))
    return place


def _limit(asked: str | None) -> int:
    if asked is None:
        return DEFAULT_LIMIT
    if not (asked.isascii() and asked.isdecimal() and len(asked) <= 4 and 1 <= int(asked) <= MAX_LIMIT):
        raise InvalidBody(Invalid("", f"limit: a number from 1 to {MAX_LIMIT}."))
    return int(asked)


_ALIKE: Final = "Answers alike, in body and in time, whether or not the address is an account's."

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/v1/auth/email/verify",
        handler=verify_email,
        tag="Identity",
        summary="Prove an address by the link that was mailed to it",
        description=(
            "Takes the token of a link that proves the account's address, or one of the two addresses of a change. Each link "
            "works once; a change is made when both were followed, and then is in force at once."
        ),
        body=LinkToken,
        answers={204: None},
        problems=("link_invalid", "email_taken", "too_many_requests", "unavailable"),
        limits=("code",),
    ),
    Operation(
        method="POST",
        path="/v1/auth/email/verify/resend",
        handler=resend_verification,
        tag="Identity",
        summary="Have the link that proves an address mailed again",
        description=f"Nothing is sent where the address was proved already. {_ALIKE}",
        body=Address,
        answers={202: None},
        problems=("too_many_requests", "unavailable"),
        limits=("reset",),
    ),
    Operation(
        method="POST",
        path="/v1/auth/email/change",
        handler=change_email,
        tag="Identity",
        summary="Move the account to another address",
        description=(
            "Mails a link to both addresses, which hold for 24 hours. The account moves when both were followed; where its "
            "present address was never proved, the new one is enough. Another change cancels the one that waits. Whether "
            "the new address is another account's is told to its mailbox only."
        ),
        login=True,
        scope="account",
        recent_login=True,
        body=Address,
        answers={202: None},
        problems=("too_many_requests", "unavailable"),
        limits=("reset",),
    ),
    Operation(
        method="POST",
        path="/v1/auth/password/forgot",
        handler=forgot_password,
        tag="Identity",
        summary="Have a link to choose a new password mailed",
        description=f"The link holds for an hour and works once. {_ALIKE}",
        body=Address,
        answers={202: None},
        problems=("too_many_requests", "unavailable"),
        limits=("reset",),
    ),
    Operation(
        method="POST",
        path="/v1/auth/password/reset",
        handler=reset_password,
        tag="Identity",
        summary="Choose a new password by the link that was mailed",
        description=(
            "Ends every session of the account and cancels whatever waits to be redeemed. It logs nobody in, and a second "
            "factor stays: it is asked for at the next login. After a 422 or 429 the link works still."
        ),
        body=PasswordReset,
        answers={204: None},
        problems=("link_invalid", "weak_password", "too_many_requests", "unavailable"),
        limits=("code",),
    ),
    Operation(
        method="POST",
        path="/v1/auth/password/change",
        handler=change_password,
        tag="Identity",
        summary="Change the password",
        description="Ends every other session of the account and cancels whatever waits to be redeemed.",
        login=True,
        scope="account",
        recent_login=True,
        body=PasswordChange,
        answers={204: None},
        problems=("invalid_credentials", "weak_password", "too_many_requests", "unavailable"),
        limits=("requests", "login"),
    ),
    Operation(
        method="GET",
        path="/v1/me/security-events",
        handler=security_events,
        tag="Account",
        summary="List what happened to the account's security",
        description="Logins, refused passwords (one in ten minutes), and every change of what one logs in with.",
        login=True,
        scope="account",
        parameters=(
            Parameter(name="cursor", where="query", description="The `cursor` of the page before."),
            Parameter(
                name="limit", where="query", description=f"1 to {MAX_LIMIT}, {DEFAULT_LIMIT} if left out.", type=int
            ),
        ),
        answers={200: SecurityEvents},
        problems=("unavailable",),
    ),
)
