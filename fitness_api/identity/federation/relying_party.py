"""The port to an issuer's authorization and token endpoints. Adapter: `relying_party_authlib`."""

from typing import Protocol

from msgspec import Struct

from fitness_api.identity.federation.providers import Provider


class Endpoints(Struct, frozen=True, kw_only=True):
    """OpenID Connect Discovery 1.0 section 3."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class RelyingParty(Protocol):
    """What every adapter keeps to; tests/fitness_api/identity/federation/test_relying_party_authlib.py checks each bullet.

    - The authorization code flow with PKCE (S256) and nothing else.
    - state, nonce and verifier are the caller's, who keeps them: no adapter does.
    - What comes back is the ID token as it was sent; checking it is the caller's.
    """

    async def authorization_url(
        self, provider: Provider, endpoints: Endpoints, *, redirect_uri: str, state: str, nonce: str, verifier: str
    ) -> str: ...

    async def id_token(
        self, provider: Provider, endpoints: Endpoints, *, code: str, redirect_uri: str, verifier: str
    ) -> str:
        """Raises IssuerUnavailable if it does not answer sensibly, IdTokenInvalid if it takes the code for none."""
        ...
