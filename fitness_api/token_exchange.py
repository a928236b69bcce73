"""The grant that makes our token pair of another issuer's ID token. Source: RFC 8693."""

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request

from fitness_api.identity.authorization.clients import TOKEN_EXCHANGE
from fitness_api.identity.errors import IdTokenInvalid, OAuthRefused
from fitness_api.identity.sessions import TokenPair
from fitness_api.oauth_answers import client_of, require_grant, required
from fitness_api.origins import origin_of
from fitness_api.proofs import key_thumbprint_of
from fitness_api.resources import Resources

ID_TOKEN: Final = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105  a type's name
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  the same


class ExchangedPair(TokenPair, frozen=True, kw_only=True):
    """RFC 8693 section 2.2.1."""

    issued_token_type: str = ACCESS_TOKEN


async def exchange(request: Request[Resources], form: Mapping[str, str]) -> ExchangedPair:
    """Only our own apps' client has this grant. Raises OAuthRefused, LinkRequired, MfaRequired, IssuerUnavailable."""
    client = await client_of(request, form)
    require_grant(client, TOKEN_EXCHANGE)
    token = required(form, "subject_token")
    if required(form, "subject_token_type") != ID_TOKEN:
        raise OAuthRefused("invalid_request", "Only ID tokens are exchanged.")
    if form.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
        raise OAuthRefused("invalid_request", "Only access tokens are given in exchange.")
    if "actor_token" in form or "actor_token_type" in form:
        raise OAuthRefused("invalid_request", "Nobody acts for another here.")
    thumbprint = await key_thumbprint_of(request)
    try:
        pair = await request.state["sign_ins"].exchange(token, origin=origin_of(request), key_thumbprint=thumbprint)
    except IdTokenInvalid as error:
        # RFC 8693 section 2.2.2: this error, whatever is wrong with the token.
        raise OAuthRefused("invalid_request", str(error)) from error
    return ExchangedPair(
        access_token=pair.access_token,
        token_type=pair.token_type,
        expires_in=pair.expires_in,
        refresh_token=pair.refresh_token,
        scope=pair.scope,
    )
