"""Forms and errors as OAuth has them: the client that asks is authenticated, and a refusal is in OAuth's own words.

Source: RFC 6749 sections 2.3, 3.2 and 5.2.
"""

import binascii
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import unquote_plus

from msgspec import UNSET, Struct, UnsetType, json
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import bodies
from fitness_api.errors import ApiError
from fitness_api.identity.authorization.clients import Client
from fitness_api.identity.errors import (
    AccountDeleted,
    DpopNonceNeeded,
    DpopProofInvalid,
    GrantInvalid,
    LinkRequired,
    MfaRequired,
    OAuthRefused,
    ScopeExceeded,
)
from fitness_api.identity.scopes import FIRST_PARTY
from fitness_api.limits.errors import LimitsError, RateLimited
from fitness_api.operation import Media
from fitness_api.proofs import NONCE_HEADER
from fitness_api.resources import Resources

# RFC 6749 section 5.1
NOT_STORED: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}

FORM: Final = Media(types=("application/x-www-form-urlencoded",))
REFUSALS: Final[Mapping[int, Media]] = {
    400: Media(types=("application/json",), description="RFC 6749 section 5.2: {error, error_description}."),
    401: Media(types=("application/json",), description="`invalid_client`: not known, or not shown to be itself."),
    429: Media(types=("application/json",), description="`temporarily_unavailable`: wait for Retry-After."),
}

# An id and a secret of ours have 80 characters.
_MAX_CREDENTIALS: Final = 1_024
_MAX_DESCRIPTION: Final = 500


class OAuthError(Struct, frozen=True, kw_only=True):
    """RFC 6749 section 5.2; `wipe` where the account was deleted, as in the problem account_deleted; `mfa_token` and `ways` as in
    the problem mfa_required.
    """

    error: str
    error_description: str
    wipe: bool | UnsetType = UNSET
    mfa_token: str | UnsetType = UNSET
    ways: tuple[str, ...] | UnsetType = UNSET


Handler = Callable[[Request[Resources]], Awaitable[Response]]


def in_oauths_words(handler: Handler) -> Handler:
    async def answered(request: Request[Resources]) -> Response:
        try:
            return await handler(request)
        except OAuthRefused as error:
            return refusal(error.error, str(error), status=error.status)
        except GrantInvalid as error:
            return refusal("invalid_grant", str(error))
        except AccountDeleted as error:
            return refusal("invalid_grant", str(error), wipe=True)
        except ScopeExceeded as error:
            return refusal("invalid_scope", str(error))
        except MfaRequired as error:
            return refusal("mfa_required", str(error), status=401, mfa_token=error.mfa_token, ways=error.ways)
        except LinkRequired as error:
            return refusal("link_required", str(error), status=409)
        except DpopProofInvalid as error:
            answer = refusal(error.error, str(error))
            if isinstance(error, DpopNonceNeeded):
                answer.headers[NONCE_HEADER] = error.nonce
            return answer
        except LimitsError as error:
            return limits_refusal(error)

    return answered


def limits_refusal(error: Exception) -> Response:
    """RFC 6749 has no code for it at these endpoints; clients go by the status."""
    answer = refusal("temporarily_unavailable", str(error), status=429 if isinstance(error, RateLimited) else 503)
    answer.headers["Retry-After"] = str(getattr(error, "retry_after_s", 1))
    return answer


async def form_of(request: Request[Resources]) -> dict[str, str]:
    """Raises OAuthRefused."""
    try:
        return await bodies.read_form(request)
    except ApiError as error:
        raise OAuthRefused("invalid_request", str(error)) from error


def required(form: Mapping[str, str], name: str) -> str:
    if not form.get(name):
        raise OAuthRefused("invalid_request", f"{name} is missing.")
    return form[name]


def scopes_of(form: Mapping[str, str]) -> frozenset[str] | None:
    """None: the client leaves it to us."""
    return frozenset(form["scope"].split()) if form.get("scope") else None


async def client_of(request: Request[Resources], form: Mapping[str, str]) -> Client:
    """Return the client that asks: by its secret in Authorization or in the form, or by its id alone where it is public.

    Left out, it is our own app. Raises OAuthRefused.
    """
    authorization = request.headers.getlist("authorization")
    if not authorization:
        return await _authenticated(request, form.get("client_id", FIRST_PARTY), form.get("client_secret"))
    if "client_secret" in form or len(authorization) > 1:
        raise OAuthRefused("invalid_request", "A client authenticates in one way (RFC 6749 section 2.3).")
    client_id, secret = _basic(authorization[0])
    if form.get("client_id", client_id) != client_id:
        raise OAuthRefused("invalid_request", "client_id is another in the form than in Authorization.")
    return await _authenticated(request, client_id, secret)


def require_grant(client: Client, grant_type: str) -> None:
    if grant_type not in client.grant_types:
        raise OAuthRefused("unauthorized_client", "The client was not registered for this grant type.")


def refusal(
    error: str,
    description: str,
    *,
    status: int = 400,
    wipe: bool | UnsetType = UNSET,
    mfa_token: str | UnsetType = UNSET,
    ways: tuple[str, ...] | UnsetType = UNSET,
) -> Response:
    # RFC 6749 section 5.2: ASCII, without quotes and backslashes. It may quote what was sent, which may be long.
    text = "".join(c for c in description[:_MAX_DESCRIPTION] if " " <= c <= "~" and c not in '"\\')
    headers: dict[str, str] = dict(NOT_STORED)
    if error == "invalid_client":
        headers["WWW-Authenticate"] = 'Basic realm="fitness-api"'
    return Response(
        json.encode(OAuthError(error=error, error_description=text, wipe=wipe, mfa_token=mfa_token, ways=ways)),
        status_code=status,
        headers=headers,
        media_type="application/json",
    )


async def _authenticated(request: Request[Resources], client_id: str, secret: str | None) -> Client:
    return await request.state["registrations"].authenticated(client_id, secret)


def _basic(authorization: str) -> tuple[str, str]:
    """RFC 6749 section 2.3.1: both are form-encoded before they are joined."""
    scheme, _, encoded = authorization.strip().partition(" ")
    if scheme.lower() != "basic" or len(encoded) > _MAX_CREDENTIALS:
        raise OAuthRefused("invalid_client", "Authorization is Basic here.", status=401)
    try:
        client_id, colon, secret = b64decode(encoded.strip(), validate=True).decode("ascii").partition(":")
        if not colon:
            raise ValueError(encoded)
        return unquote_plus(client_id, errors="strict"), unquote_plus(secret, errors="strict")
    except (binascii.Error, ValueError):
        raise OAuthRefused("invalid_client", "Authorization is not as Basic has it.", status=401) from None
