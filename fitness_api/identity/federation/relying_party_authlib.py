"""The authorization code flow as a client, by Authlib's Starlette client over our bounded transport.

Its own sessions, metadata and ID token checks are left unused: the first live in a cookie, the second are read without a
bound and kept for ever, and the third ask the issuer for its keys at every unknown kid.
"""

from collections.abc import Callable
from typing import Any, Final

import httpx2
from authlib.integrations.starlette_client import OAuthError, StarletteOAuth2App
from msgspec import UNSET

from fitness_api.identity.errors import IdTokenInvalid, IssuerUnavailable
from fitness_api.identity.federation.fetcher_httpx2 import TIMEOUT_S, BoundedTransport
from fitness_api.identity.federation.providers import Provider, client_secret
from fitness_api.identity.federation.relying_party import Endpoints
from fitness_api.identity.key_ring import wall_clock_ms

# Of what an issuer offers, the first of these that it knows.
_AUTH_METHODS: Final = ("client_secret_basic", "client_secret_post")


class AuthlibRelyingParty:
    def __init__(self, transport: BoundedTransport, *, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self._transport = transport
        self._now_ms = now_ms

    async def authorization_url(
        self, provider: Provider, endpoints: Endpoints, *, redirect_uri: str, state: str, nonce: str, verifier: str
    ) -> str:
        more = {} if provider.response_mode == "query" else {"response_mode": provider.response_mode}
        made = await self._client(provider, endpoints).create_authorization_url(
            redirect_uri, state=state, nonce=nonce, code_verifier=verifier, **more
        )
        return str(made["url"])

    async def id_token(
        self, provider: Provider, endpoints: Endpoints, *, code: str, redirect_uri: str, verifier: str
    ) -> str:
        try:
            answer: dict[str, Any] = await self._client(provider, endpoints).fetch_access_token(
                redirect_uri, code=code, code_verifier=verifier, grant_type="authorization_code"
            )
        except OAuthError as error:
            if error.error == "invalid_grant":
                raise IdTokenInvalid("The sign-in took too long, or was used before; begin it again.") from error
            raise IssuerUnavailable(provider.name) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, TypeError) as error:
            raise IssuerUnavailable(provider.name) from error
        token = answer.get("id_token", UNSET)
        if not isinstance(token, str):
            raise IssuerUnavailable(provider.name)
        return token

    def _client(self, provider: Provider, endpoints: Endpoints) -> Any:
        secret = client_secret(provider, now_s=self._now_ms() // 1000)
        offered = endpoints.token_endpoint_auth_methods_supported
        return StarletteOAuth2App(
            None,
            name=provider.name,
            client_id=provider.client_id,
            client_secret=secret,
            authorize_url=endpoints.authorization_endpoint,
            access_token_url=endpoints.token_endpoint,
            client_kwargs={
                "scope": " ".join(provider.scopes),
                "code_challenge_method": "S256",
                "token_endpoint_auth_method": (
                    "none"
                    if secret is None
                    else next((one for one in _AUTH_METHODS if one in offered), _AUTH_METHODS[0])
                ),
                "transport": self._transport,
                "timeout": TIMEOUT_S,
                "follow_redirects": False,
                "trust_env": False,
                "headers": {"Accept-Encoding": "identity"},
            },
        )
