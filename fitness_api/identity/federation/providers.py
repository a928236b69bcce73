"""Whom we let vouch for people, and how far: which tokens are theirs for us, and which addresses they know best."""

from collections.abc import Mapping
from typing import Final, Literal
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import Struct

from fitness_api.settings import AppleKey, OidcProvider

GOOGLE: Final = "https://accounts.google.com"
APPLE: Final = "https://appleid.apple.com"

# Both are documented for `iss`. Source: https://developers.google.com/identity/openid-connect/openid-connect
_ALIASES: Final[Mapping[str, frozenset[str]]] = {GOOGLE: frozenset({"accounts.google.com"})}

# They send a code to a mailbox, or run it, before they say `email_verified`.
_VERIFYING: Final = frozenset({GOOGLE, APPLE})

# Whose mailboxes they run, so that nobody else can have come by one. Anywhere else a provider only tells that somebody could
# read mail there at some time, and the address may have another owner since.
# Sources: https://developers.google.com/identity/gsi/web/guides/verify-google-id-token ("Google is authoritative"),
# https://support.apple.com/en-us/108970 (iCloud Mail), and Apple's private relay, where each address is made for one app's user.
_AUTHORITATIVE: Final[Mapping[str, frozenset[str]]] = {
    GOOGLE: frozenset({"gmail.com", "googlemail.com"}),
    APPLE: frozenset({"icloud.com", "me.com", "mac.com", "privaterelay.appleid.com"}),
}

# Apple sends the answer as a form as soon as a name or an address is asked for.
_FORM_POST: Final = frozenset({APPLE})

# Apple takes a secret of half a year; one that is made for each request may as well live minutes.
APPLE_SECRET_S: Final = 300


class Provider(Struct, frozen=True, kw_only=True):
    """An OpenID provider as this deployment knows it.

    audiences: the client ids that its tokens for us may be made for: the web's and each platform's.
    verifies_addresses: its `email_verified` is worth something; without that an address of its is nobody's.
    """

    name: str
    issuer: str
    aliases: frozenset[str] = frozenset()
    client_id: str
    client_secret: str | None = None
    apple_key: AppleKey | None = None
    audiences: frozenset[str]
    verifies_addresses: bool
    authoritative_domains: frozenset[str]
    hosts_domains: bool
    scopes: tuple[str, ...]
    response_mode: Literal["query", "form_post"] = "query"

    def __repr__(self) -> str:
        return f"Provider({self.name}, {self.issuer}, …)"

    def is_issuer(self, issuer: str) -> bool:
        return issuer == self.issuer or issuer in self.aliases

    def is_authoritative(self, address: str, hosted_domain: str | None) -> bool:
        """Whether nobody but the provider's user can own the mailbox.

        Google says `hd` of a user of Workspace, whose domain it hosts. Only the domain's own addresses count here: an
        alias in another domain of the same customer is rare, and its owner can link by hand.
        """
        _, _, domain = address.rpartition("@")
        if domain in self.authoritative_domains:
            return True
        return self.hosts_domains and hosted_domain is not None and hosted_domain.lower() == domain


def of(setting: OidcProvider) -> Provider:
    """Raises ValueError if it cannot be used; the message names the provider, and repeats no secret."""
    if setting.apple_key is not None:
        _signing_key(setting.name, setting.apple_key)
        if setting.client_secret is not None:
            raise ValueError(f"{setting.name}: apple_key makes the client secret; give one of the two.")
    domains = setting.authoritative_domains
    verifies = setting.verifies_addresses
    return Provider(
        name=setting.name,
        issuer=setting.issuer,
        aliases=_ALIASES.get(setting.issuer, frozenset()),
        client_id=setting.client_id,
        client_secret=setting.client_secret,
        apple_key=setting.apple_key,
        audiences=frozenset({setting.client_id, *setting.audiences.values()}),
        verifies_addresses=setting.issuer in _VERIFYING if verifies is None else verifies,
        authoritative_domains=(
            _AUTHORITATIVE.get(setting.issuer, frozenset())
            if domains is None
            else frozenset(domain.lower() for domain in domains)
        ),
        hosts_domains=setting.issuer == GOOGLE,
        scopes=("openid", "email", "name") if setting.issuer == APPLE else ("openid", "email", "profile"),
        response_mode="form_post" if setting.issuer in _FORM_POST else "query",
    )


def all_of(settings: tuple[OidcProvider, ...]) -> dict[str, Provider]:
    """Return the providers by name. Raises ValueError, also if two share a name or an issuer."""
    providers = [of(setting) for setting in settings]
    for what in ("name", "issuer"):
        if len({getattr(provider, what) for provider in providers}) < len(providers):
            raise ValueError(f"Two providers have the same {what}.")
    return {provider.name: provider for provider in providers}


def client_secret(provider: Provider, *, now_s: int) -> str | None:
    """Return what we show the provider's token endpoint, or None where we are a public client.

    Source: https://developer.apple.com/documentation/accountorganizationaldatasharing/creating-a-client-secret
    """
    key = provider.apple_key
    if key is None:
        return provider.client_secret
    claims = {
        "iss": key.team_id,
        "iat": now_s,
        "exp": now_s + APPLE_SECRET_S,
        "aud": provider.issuer,
        "sub": provider.client_id,
    }
    return jwt.encode(claims, _signing_key(provider.name, key), algorithm="ES256", headers={"kid": key.key_id})


def is_allowed(url: str, provider: Provider) -> bool:
    """Whether the provider may send us, or a browser, to this address: https, or one on this machine if it is here itself."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        return False
    if parts.scheme == "https":
        return True
    return parts.scheme == "http" and host in _LOOPBACK and urlsplit(provider.issuer).scheme == "http"


_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def _signing_key(name: str, key: AppleKey) -> ec.EllipticCurvePrivateKey:
    try:
        loaded = load_pem_private_key(key.private_key.encode(), password=None)
    except (ValueError, TypeError):
        raise ValueError(f"{name}: apple_key.private_key is not a PEM of a private key.") from None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey) or not isinstance(loaded.curve, ec.SECP256R1):
        raise ValueError(f"{name}: apple_key.private_key is not a key on P-256.")  # noqa: TRY004  of the setting, not the call
    return loaded
