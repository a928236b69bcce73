"""The token and revocation endpoints, and what verifiers of our tokens read."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from msgspec import UNSET, Struct, UnsetType, json
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import bodies
from fitness_api.errors import ApiError
from fitness_api.identity.dpop import ALGORITHMS
from fitness_api.identity.errors import AccountDeleted, DpopNonceNeeded, DpopProofInvalid, GrantInvalid, ScopeExceeded
from fitness_api.identity.sessions import FIRST_PARTY, USER_SCOPES, TokenPair
from fitness_api.identity.signing_keys import PublicJWK
from fitness_api.operation import Media, Operation
from fitness_api.origins import origin_of
from fitness_api.proofs import NONCE_HEADER, key_thumbprint_of
from fitness_api.resources import Resources

# A key is published twice as long before it signs; verifiers that look this often never meet an unknown one.
_KEYS_FOR: Final = "public, max-age=300"
# RFC 6749 section 5.1
_NOT_STORED: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}

_FORM: Final = "application/x-www-form-urlencoded"


class JWKSet(Struct, frozen=True, kw_only=True):
    """RFC 7517. The key that will sign next is among them ten minutes before it does."""

    keys: tuple[PublicJWK, ...]


class AuthorizationServer(Struct, frozen=True, kw_only=True):
    """RFC 8414."""

    issuer: str
    token_endpoint: str
    revocation_endpoint: str
    jwks_uri: str
    scopes_supported: tuple[str, ...]
    response_types_supported: tuple[str, ...]
    grant_types_supported: tuple[str, ...]
    token_endpoint_auth_methods_supported: tuple[str, ...]
    revocation_endpoint_auth_methods_supported: tuple[str, ...]
    dpop_signing_alg_values_supported: tuple[str, ...]


class OAuthError(Struct, frozen=True, kw_only=True):
    """RFC 6749 section 5.2; `wipe` where the account was deleted, as in the problem account_deleted."""

    error: str
    error_description: str
    wipe: bool | UnsetType = UNSET


class _Refused(Exception):
    """What the token and revocation endpoints answer in OAuth's own form."""

    def __init__(self, error: str, description: str, *, status: int = 400, wipe: bool | UnsetType = UNSET) -> None:
        super().__init__(description)
        self.error = error
        self.status = status
        self.wipe = wipe


Grant = Callable[[Request[Resources], Mapping[str, str]], Awaitable[TokenPair]]


async def token(request: Request[Resources]) -> Response:
    try:
        form = await _form(request)
        if (grant_type := form.get("grant_type")) is None:
            raise _Refused("invalid_request", "grant_type is missing.")
        if (grant := GRANTS.get(grant_type)) is None:
            raise _Refused("unsupported_grant_type", "This grant type is not served.")
        pair = await grant(request, form)
    except _Refused as refused:
        return _oauth_error(refused)
    except DpopProofInvalid as error:
        nonce = {NONCE_HEADER: error.nonce} if isinstance(error, DpopNonceNeeded) else {}
        return _oauth_error(_Refused(error.error, str(error)), nonce)
    return bodies.respond(request, pair, headers=_NOT_STORED)


async def revoke(request: Request[Resources]) -> Response:
    try:
        form = await _form(request)
        presented = form.get("token")
        if not presented:
            raise _Refused("invalid_request", "token is missing.")
        await request.state["sessions"].revoke_token(
            presented, client_id=_client(request, form), origin=origin_of(request)
        )
    except _Refused as refused:
        return _oauth_error(refused)
    # Also for a token that is none: RFC 7009 section 2.2.
    return Response(status_code=200, headers=_NOT_STORED)


async def jwks(request: Request[Resources]) -> Response:
    keys = await request.state["sessions"].published_keys()
    return bodies.respond(request, JWKSet(keys=keys), headers={"Cache-Control": _KEYS_FOR})


async def authorization_server(request: Request[Resources]) -> Response:
    issuer = request.state["settings"].public_url.rstrip("/")
    described = AuthorizationServer(
        issuer=issuer,
        token_endpoint=f"{issuer}/v1/oauth/token",
        revocation_endpoint=f"{issuer}/v1/oauth/revoke",
        jwks_uri=f"{issuer}/.well-known/jwks.json",
        scopes_supported=USER_SCOPES,
        response_types_supported=(),
        grant_types_supported=tuple(GRANTS),
        token_endpoint_auth_methods_supported=("none",),
        revocation_endpoint_auth_methods_supported=("none",),
        dpop_signing_alg_values_supported=ALGORITHMS,
    )
    return bodies.respond(request, described, headers={"Cache-Control": _KEYS_FOR})


async def _refresh(request: Request[Resources], form: Mapping[str, str]) -> TokenPair:
    client_id = _client(request, form)
    presented = form.get("refresh_token")
    if not presented:
        raise _Refused("invalid_request", "refresh_token is missing.")
    scopes = frozenset(form["scope"].split()) if form.get("scope") else None
    try:
        return await request.state["sessions"].refresh(
            presented,
            client_id=client_id,
            scopes=scopes,
            key_thumbprint=await key_thumbprint_of(request),
            origin=origin_of(request),
        )
    except GrantInvalid as error:
        raise _Refused("invalid_grant", str(error)) from error
    except AccountDeleted as error:
        raise _Refused("invalid_grant", str(error), wipe=True) from error
    except ScopeExceeded as error:
        raise _Refused("invalid_scope", str(error)) from error


# grant_type → what serves it.
GRANTS: Final[Mapping[str, Grant]] = {"refresh_token": _refresh}


async def _form(request: Request[Resources]) -> dict[str, str]:
    try:
        return await bodies.read_form(request)
    except ApiError as error:
        raise _Refused("invalid_request", str(error)) from error


def _client(request: Request[Resources], form: Mapping[str, str]) -> str:
    """Return the client's id. Ours is public: it has nothing to authenticate with, and a client that tries is another."""
    client_id = form.get("client_id", FIRST_PARTY)
    if client_id != FIRST_PARTY or "client_secret" in form or "authorization" in request.headers:
        raise _Refused("invalid_client", "This client is not known.", status=401)
    return client_id


def _oauth_error(refused: _Refused, more: Mapping[str, str] = _NOT_STORED) -> Response:
    # RFC 6749 section 5.2: ASCII, without quotes and backslashes.
    description = "".join(c for c in str(refused) if " " <= c <= "~" and c not in '"\\')
    headers: dict[str, str] = {**_NOT_STORED, **more}
    if refused.status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="fitness-api"'
    return Response(
        json.encode(OAuthError(error=refused.error, error_description=description, wipe=refused.wipe)),
        status_code=refused.status,
        headers=headers,
        media_type="application/json",
    )


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/v1/oauth/token",
        handler=token,
        tag="OAuth",
        summary="Refresh a token pair",
        description=(
            "grant_type=refresh_token, refresh_token, and perhaps client_id (`app`, which may be left out) and scope (to "
            "narrow the access token). Refresh tokens rotate. If the answer gets lost, send the same token again: the "
            "latest used one gets the same successor for 30 s, and longer while neither the successor nor its access "
            "token was seen. Any other token that was used before ends the session. Errors are those of RFC 6749 "
            "section 5.2: {error, error_description}; `invalid_grant` with `wipe`: true says that the account was deleted. "
            "Tokens that are bound to a key (RFC 9449) are refreshed with a proof in the DPoP header, which has a nonce."
        ),
        body=Media(types=(_FORM,), description="RFC 6749 section 6."),
        answers={
            200: TokenPair,
            400: Media(types=("application/json",), description="RFC 6749 section 5.2: {error, error_description}."),
            401: Media(types=("application/json",), description="`invalid_client`: the client is not known."),
        },
        problems=("unavailable",),
    ),
    Operation(
        method="POST",
        path="/v1/oauth/revoke",
        handler=revoke,
        tag="OAuth",
        summary="End the session of a refresh or access token",
        description="RFC 7009: token, and perhaps token_type_hint and client_id. A token that does not hold is no error.",
        body=Media(types=(_FORM,), description="RFC 7009 section 2.1."),
        answers={
            200: None,
            400: Media(types=("application/json",), description="RFC 6749 section 5.2: {error, error_description}."),
            401: Media(types=("application/json",), description="`invalid_client`: the client is not known."),
        },
        problems=("unavailable",),
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
    Operation(
        method="GET",
        path="/.well-known/oauth-authorization-server",
        handler=authorization_server,
        tag="OAuth",
        summary="What this authorization server serves",
        answers={200: AuthorizationServer},
    ),
)
