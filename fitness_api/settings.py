"""What an operator may set: environment variables named FITNESS_*, read once by the composition root.

A name that begins with FITNESS_ and is none of ours is refused, so that a typo is not a silent default.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Annotated, Any, Literal

from msgspec import DecodeError, Meta, Struct, ValidationError, convert, json
from msgspec.structs import fields

PREFIX = "FITNESS_"
MASTER_KEY_BYTES = 32


# "Expected `int` - at `$.port`" and, where nothing encloses it, "Object missing required field `mongo_url`".
_PATH = re.compile(r"(?<=at )`\$\.(\w+)([^`]*)`")
_FIELD = re.compile(r"(?<=field )`(\w+)`()")


class SettingsInvalid(Exception):
    """The environment cannot be used; the message names the variable."""


class AppleKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The key of "Sign in with Apple" as its developers' site gives it: `private_key` is the text of the .p8 file."""

    team_id: str
    key_id: str
    private_key: str

    def __repr__(self) -> str:
        return f"AppleKey({self.team_id}, {self.key_id}, …)"


class OidcProvider(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OpenID provider whose users may sign in. What is None is known of Google and Apple, and "no" for any other.

    audiences: a platform's name → the client id that its app signs in with.
    verifies_addresses: its `email_verified` may be believed. authoritative_domains: whose mailboxes it runs itself.
    """

    name: Annotated[str, Meta(pattern="^[a-z][a-z0-9-]{0,31}$")]
    # Another scheme than https is for a provider on this very machine, as tests have one.
    issuer: Annotated[
        str, Meta(pattern=r"^(https://[^/?#@]+|http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?)(/[^?#]*)?$")
    ]
    client_id: Annotated[str, Meta(min_length=1)]
    client_secret: str | None = None
    apple_key: AppleKey | None = None
    audiences: dict[str, Annotated[str, Meta(min_length=1)]] = {}
    verifies_addresses: bool | None = None
    authoritative_domains: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"OidcProvider({self.name}, {self.issuer}, …)"


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One gateway's or worker's settings.

    master_key: 32 bytes in base64; every other secret (refresh tokens, signing keys at rest, cursors) is derived from
    it, so all processes share it and none is restarted to rotate a signing key.
    app_redirect_uris: where our own apps may be answered when they send a user to our pages, with spaces between.
    trusted_proxies, shared_networks, unlimited_networks: addresses and CIDR blocks, separated by commas.
    service_name: what authenticator apps and passkeys call us. passkey_rp_id: the domain that passkeys are bound to, the public
    URL's host if left out. passkey_origins: where else than there they are used, with spaces between.
    """

    mongo_url: Annotated[str, Meta(pattern=r"^mongodb(\+srv)?://.")]
    redis_url: Annotated[str, Meta(pattern="^(rediss?|unix)://.")]
    master_key: str
    public_url: Annotated[str, Meta(pattern="^https?://.")] = "http://127.0.0.1:8080"
    service_name: Annotated[str, Meta(min_length=1, max_length=64)] = "Fitness"
    passkey_rp_id: Annotated[str, Meta(pattern=r"^([a-z0-9-]+(\.[a-z0-9-]+)*)?$")] = ""
    passkey_origins: Annotated[str, Meta(pattern=r"^((https?://|android:apk-key-hash:)[^\s/]+( |$))*$")] = ""
    smtp_url: Annotated[str, Meta(pattern="^smtps?://.")] | None = None
    mail_from: Annotated[str, Meta(pattern=r"^[^<>@\s]+@[^<>@\s]+$|^[^<>]*<[^<>@\s]+@[^<>@\s]+>$")] = (
        "no-reply@localhost"
    )
    mongo_database: Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,37}$")] = "fitness"
    mongo_pool_size: Annotated[int, Meta(ge=1, le=1000)] = 100
    app_redirect_uris: str = ""
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    password_hashers: Annotated[int, Meta(ge=1, le=64)] = 2
    import_workers: Annotated[int, Meta(ge=1, le=64)] = 2
    oidc_providers: Annotated[tuple[OidcProvider, ...], Meta(max_length=16)] = ()
    trusted_proxies: str = ""
    proxy_header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"
    shared_networks: str = ""
    unlimited_networks: str = ""

    def __repr__(self) -> str:
        shown = ("host", "port", "public_url", "mongo_database")
        return f"Settings({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)}, …)"


def from_environment(environ: Mapping[str, str]) -> Settings:
    """Raises SettingsInvalid if a variable is missing, unknown, or out of its range."""
    ours = {name[len(PREFIX) :].lower(): value for name, value in environ.items() if name.startswith(PREFIX)}
    known = {field.name for field in fields(Settings)}
    for name in sorted(ours.keys() - known):
        raise SettingsInvalid(
            f"{PREFIX}{name.upper()} is not a setting. Known: {', '.join(sorted(PREFIX + n.upper() for n in known))}"
        )
    given: dict[str, Any] = dict(ours)
    if "oidc_providers" in given:
        try:
            given["oidc_providers"] = json.decode(ours["oidc_providers"])
        except (DecodeError, UnicodeError):
            raise SettingsInvalid(f"{PREFIX}OIDC_PROVIDERS has to be a JSON list of providers.") from None
    try:
        settings = convert(given, Settings, strict=False)
    except ValidationError as error:
        said = str(error)
        named = _PATH if _PATH.search(said) else _FIELD
        raise SettingsInvalid(named.sub(_variable, said).replace("Object missing", "Missing")) from None
    try:
        key = b64decode(settings.master_key, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != MASTER_KEY_BYTES:
        raise SettingsInvalid(
            f"{PREFIX}MASTER_KEY has to be {MASTER_KEY_BYTES} bytes in base64 (openssl rand -base64 32)."
        )
    for name in ("trusted_proxies", "shared_networks", "unlimited_networks"):
        for block in getattr(settings, name).split(","):
            try:
                _ = block.strip() and ip_network(block.strip())
            except ValueError as error:
                raise SettingsInvalid(f"{PREFIX}{name.upper()}: {error}.") from None
    return settings


def _variable(found: re.Match[str]) -> str:
    return PREFIX + found[1].upper() + found[2]
