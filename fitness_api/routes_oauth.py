"""The token endpoint and its grants, revocation and introspection, and what verifiers of our tokens read."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import bodies, token_exchange
from fitness_api.identity.access_tokens import LIFETIME_S
from fitness_api.identity.authorization.clients import (
    AUTHORIZATION_CODE,
    CLIENT_CREDENTIALS,
    DEVICE_CODE,
    REFRESH_TOKEN,
    TOKEN_EXCHANGE,
    Client,
)
from fitness_api.identity.dpop import ALGORITHMS
from fitness_api.identity.errors import OAuthRefused
from fitness_api.identity.scopes import SERVICE_SCOPES, USER_SCOPES
from fitness_api.identity.sessions import TokenPair
from fitness_api.identity.signing_keys import PublicJWK
from fitness_api.oauth_answers import (
    FORM,
    NOT_STORED,
    REFUSALS,
    client_of,
    form_of,
    in_oauths_words,
    limits_refusal,
    require_grant,
    required,
    scopes_of,
)
from fitness_api.operation import Operation
from fitness_api.origins import origin_of
from fitness_api.proofs import key_thumbprint_of
from fitness_api.resources import Resources

# A key is published twice as long before it signs; verifiers that look this often never meet an unknown one.
_KEYS_FOR: Final = "public, max-age=300"


class JWKSet(Struct, frozen=True, kw_only=True):
    """RFC 7517. The key that will sign next is among them ten minutes before it does."""

    keys: tuple[PublicJWK, ...]


class AccessToken(Struct, frozen=True, kw_only=True):
    """A token pair's better half: a client that may not refresh asks for another one instead."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str


class Confirmation(Struct, frozen=True):
    """RFC 9449 section 6.2."""

    jkt: str


class Introspection(Struct, frozen=True, kw_only=True):
    """RFC 7662. Of a token that is unknown, over or another client's it says only that it is not active."""

    active: bool
    scope: str | UnsetType = UNSET
    client_id: str | UnsetType = UNSET
    sub: str | UnsetType = UNSET
    token_type: str | UnsetType = UNSET
    exp: int | UnsetType = UNSET
    iss: str | UnsetType = UNSET
    aud: str | UnsetType = UNSET
    cnf: Confirmation | UnsetType = UNSET


class AuthorizationServer(Struct, frozen=True, kw_only=True):
    """RFC 8414."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    device_authorization_endpoint: str
    revocation_endpoint: str
    introspection_endpoint: str
    jwks_uri: str
    scopes_supported: tuple[str, ...]
    response_types_supported: tuple[str, ...]
    response_modes_supported: tuple[str, ...]
    grant_types_supported: tuple[str, ...]
    code_challenge_methods_supported: tuple[str, ...]
    authorization_response_iss_parameter_supported: bool
    token_endpoint_auth_methods_supported: tuple[str, ...]
    revocation_endpoint_auth_methods_supported: tuple[str, ...]
    introspection_endpoint_auth_methods_supported: tuple[str, ...]
    dpop_signing_alg_values_supported: tuple[str, ...]
    service_documentation: str


Grant = Callable[[Request[Resources], Mapping[str, str]], Awaitable[Any]]


@in_oauths_words
async def token(request: Request[Resources]) -> Response:
    form = await form_of(request)
    if "grant_type" not in form:
        raise OAuthRefused("invalid_request", "grant_type is missing.")
    if (grant := GRANTS.get(form["grant_type"])) is None:
        raise OAuthRefused("unsupported_grant_type", "This grant type is not served.")
    return bodies.respond(request, await grant(request, form), headers=NOT_STORED)


@in_oauths_words
async def revoke(request: Request[Resources]) -> Response:
    form = await form_of(request)
    client = await client_of(request, form)
    await request.state["sessions"].revoke_token(
        required(form, "token"), client_id=client.client_id, origin=origin_of(request)
    )
    # Also for a token that is none: RFC 7009 section 2.2.
    return Response(status_code=200, headers=NOT_STORED)


@in_oauths_words
async def introspect(request: Request[Resources]) -> Response:
    form = await form_of(request)
    client = await client_of(request, form)
    if not client.confidential:
        # Whoever finds a token is not to try it out here.
        raise OAuthRefused("invalid_client", "Introspection is for confidential clients.", status=401)
    allowed = await request.state["introspection"].of(required(form, "token"), client)
    answer = Introspection(active=False)
    if allowed is not None:
        issuer = _issuer(request)
        answer = Introspection(
            active=True,
            scope=" ".join(allowed.scopes),
            client_id=client.client_id,
            sub=allowed.user_id,
            token_type="Bearer" if allowed.key_thumbprint is None else "DPoP",
            exp=allowed.expires_at_s,
            iss=issuer,
            aud=issuer,
            cnf=UNSET if allowed.key_thumbprint is None else Confirmation(allowed.key_thumbprint),
        )
    return bodies.respond(request, answer, headers=NOT_STORED)


async def jwks(request: Request[Resources]) -> Response:
    keys = await request.state["sessions"].published_keys()
    return bodies.respond(request, JWKSet(keys=keys), headers={"Cache-Control": _KEYS_FOR})


async def authorization_server(request: Request[Resources]) -> Response:
    issuer = _issuer(request)
    by_secret = ("client_secret_basic", "client_secret_post")
    described = AuthorizationServer(
        issuer=issuer,
        authorization_endpoint=f"{issuer}/v1/oauth/authorize",
        token_endpoint=f"{issuer}/v1/oauth/token",
        device_authorization_endpoint=f"{issuer}/v1/oauth/device_authorization",
        revocation_endpoint=f"{issuer}/v1/oauth/revoke",
        introspection_endpoint=f"{issuer}/v1/oauth/introspect",
        jwks_uri=f"{issuer}/.well-known/jwks.json",
        scopes_supported=(*USER_SCOPES, *SERVICE_SCOPES),
        response_types_supported=("code",),
        response_modes_supported=("query",),
        grant_types_supported=tuple(GRANTS),
        code_challenge_methods_supported=("S256",),
        authorization_response_iss_parameter_supported=True,
        token_endpoint_auth_methods_supported=("none", *by_secret),
        revocation_endpoint_auth_methods_supported=("none", *by_secret),
        introspection_endpoint_auth_methods_supported=by_secret,
        dpop_signing_alg_values_supported=ALGORITHMS,
        service_documentation=f"{issuer}/docs",
    )
    return bodies.respond(request, described, headers={"Cache-Control": _KEYS_FOR})


async def _refresh(request: Request[Resources], form: Mapping[str, str]) -> TokenPair:
    client = await client_of(request, form)
    require_grant(client, REFRESH_TOKEN)
    presented = required(form, "refresh_token")
    return await request.state["sessions"].refresh(
        presented,
        client_id=client.client_id,
        scopes=scopes_of(form),
        key_thumbprint=await key_thumbprint_of(request),
        origin=origin_of(request),
    )


async def _code(request: Request[Resources], form: Mapping[str, str]) -> TokenPair | AccessToken:
    client = await client_of(request, form)
    require_grant(client, AUTHORIZATION_CODE)
    pair = await request.state["codes"].redeem(
        required(form, "code"),
        client,
        redirect_uri=required(form, "redirect_uri"),
        verifier=required(form, "code_verifier"),
        origin=origin_of(request),
        key_thumbprint=await key_thumbprint_of(request),
    )
    return _for(client, pair)


async def _device_code(request: Request[Resources], form: Mapping[str, str]) -> TokenPair | AccessToken:
    client = await client_of(request, form)
    require_grant(client, DEVICE_CODE)
    pair = await request.state["device_grants"].redeem(
        required(form, "device_code"),
        client,
        origin=origin_of(request),
        key_thumbprint=await key_thumbprint_of(request),
    )
    return _for(client, pair)


async def _client_credentials(request: Request[Resources], form: Mapping[str, str]) -> AccessToken:
    """The client acts for itself, and is its own user: its id is the token's `sub` (RFC 9068 section 2.2)."""
    client = await client_of(request, form)
    require_grant(client, CLIENT_CREDENTIALS)
    allowed = tuple(scope for scope in client.scopes if scope in SERVICE_SCOPES)
    wanted = scopes_of(form)
    if not allowed or (wanted is not None and not wanted <= frozenset(allowed)):
        raise OAuthRefused("invalid_scope", "The client was not registered for a scope that it asks for.")
    pair = await request.state["sessions"].begin(
        client.client_id,
        client_id=client.client_id,
        scopes=allowed if wanted is None else tuple(scope for scope in allowed if scope in wanted),
        methods=(),
        user_agent=origin_of(request).user_agent,
        key_thumbprint=await key_thumbprint_of(request),
        lifetime_ms=LIFETIME_S * 1_000,
    )
    return _alone(pair)


def _for(client: Client, pair: TokenPair) -> TokenPair | AccessToken:
    return pair if REFRESH_TOKEN in client.grant_types else _alone(pair)


def _alone(pair: TokenPair) -> AccessToken:
    return AccessToken(
        access_token=pair.access_token, token_type=pair.token_type, expires_in=pair.expires_in, scope=pair.scope
    )


# grant_type → what serves it.
GRANTS: Final[Mapping[str, Grant]] = {
    REFRESH_TOKEN: _refresh,
    AUTHORIZATION_CODE: _code,
    DEVICE_CODE: _device_code,
    CLIENT_CREDENTIALS: _client_credentials,
    TOKEN_EXCHANGE: token_exchange.exchange,
}


def _issuer(request: Request[Resources]) -> str:
    return request.state["settings"].public_url.rstrip("/")


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/v1/oauth/token",
        handler=token,
        tag="OAuth",
        summary="Get tokens for a grant",
        description=(
            "A client authenticates by its secret, in Authorization: Basic or as client_secret; a public one sends client_id, "
            "and our own apps may leave that out (`app`). By grant_type: `authorization_code` with code, redirect_uri and "
            "code_verifier; `urn:ietf:params:oauth:grant-type:device_code` with device_code; `client_credentials` and perhaps "
            "scope (and no refresh token comes back, as with any client that was not registered for it); "
            "`urn:ietf:params:oauth:grant-type:token-exchange` with subject_token and subject_token_type "
            "`urn:ietf:params:oauth:token-type:id_token` (RFC 8693), an ID token of Google, Apple or another provider whose `nonce` is one "
            "of `/v1/auth/nonce`; `refresh_token` with refresh_token and perhaps scope (to narrow the access token). Refresh tokens rotate. If "
            "the answer gets lost, send the same token again: the latest used one gets the same successor for 30 s, and longer "
            "while neither the successor nor its access token was seen. Any other token that was used before ends the session, "
            "and so does a code that is redeemed again. Errors are those of RFC 6749 section 5.2: {error, error_description}; "
            "`invalid_grant` with `wipe`: true says that the account was deleted. A proof in the DPoP header (RFC 9449), which has a nonce, "
            "binds the tokens to its key, and then they are refreshed with one."
        ),
        body=FORM,
        answers={200: TokenPair, **REFUSALS},
        problems=("unavailable",),
        limits=("token",),
        if_limited=limits_refusal,
    ),
    Operation(
        method="POST",
        path="/v1/oauth/revoke",
        is_repeatable=True,
        handler=revoke,
        tag="OAuth",
        summary="End the session of a refresh or access token",
        description="RFC 7009: token, and perhaps token_type_hint and what authenticates the client. A token that does not hold is no error.",
        body=FORM,
        answers={200: None, **REFUSALS},
        problems=("unavailable",),
        limits=("token",),
        if_limited=limits_refusal,
    ),
    Operation(
        method="POST",
        path="/v1/oauth/introspect",
        is_repeatable=True,
        handler=introspect,
        tag="OAuth",
        summary="Ask a confidential client's own token what it allows",
        description="RFC 7662: token, and what authenticates the client.",
        body=FORM,
        answers={200: Introspection, **REFUSALS},
        problems=("unavailable",),
        limits=("token",),
        if_limited=limits_refusal,
    ),
    Operation(
        method="GET",
        path="/.well-known/jwks.json",
        handler=jwks,
        tag="OAuth",
        summary="The keys that access tokens are signed with",
        answers={200: JWKSet},
        problems=("unavailable",),
    ),
    *(
        Operation(
            method="GET",
            path=f"/.well-known/{name}",
            handler=authorization_server,
            tag="OAuth",
            summary="What this authorization server serves",
            description=description,
            answers={200: AuthorizationServer},
        )
        for name, description in (
            ("oauth-authorization-server", "RFC 8414."),
            (
                "openid-configuration",
                "The same, where libraries for OpenID Connect look for it. ID tokens are not issued: this is OAuth alone.",
            ),
        )
    ),
)
