"""A client of the authorization server: what it may be, where answers to it may go, and what it may ask for."""

import re
import unicodedata
from collections.abc import Collection, Iterable
from typing import Final, Literal
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from fitness_api.errors import Invalid, InvalidBody
from fitness_api.identity.scopes import FIRST_PARTY, SERVICE_SCOPES, USER_SCOPES

AUTHORIZATION_CODE: Final = "authorization_code"
CLIENT_CREDENTIALS: Final = "client_credentials"
DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"
REFRESH_TOKEN: Final = "refresh_token"  # noqa: S105  a grant's name
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105  the same

GrantType = Literal[
    "authorization_code",
    "client_credentials",
    "refresh_token",
    "urn:ietf:params:oauth:grant-type:device_code",
]

MAX_CLIENTS: Final = 1_000  # an operator registers each by hand; bounds what is listed
MAX_NAME: Final = 60  # fits a line of the consent page
MAX_REDIRECT_URIS: Final = 20
MAX_REDIRECT_URI: Final = 512  # what mail programs, terminals and QR codes still carry whole

# RFC 8252 section 7.3: an app takes what port is free. Addresses only: `localhost` may resolve to another's.
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
# RFC 8252 section 7.1: a scheme is a domain name of the app's maker, reversed.
_PRIVATE_SCHEME: Final = re.compile(r"[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+")
_HOST: Final = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]")
_VISIBLE: Final = re.compile(r"[!-~]+")  # RFC 3986 has no other characters


class Client(Struct, frozen=True, kw_only=True):
    """secret_digest: of a confidential client's secret, which is 256 random bits, so that a plain hash suffices."""

    client_id: str
    name: str
    redirect_uris: tuple[str, ...]
    grant_types: tuple[str, ...]
    scopes: tuple[str, ...]
    secret_digest: bytes | None = None
    created_at_ms: int = 0

    @property
    def confidential(self) -> bool:
        return self.secret_digest is not None

    def __repr__(self) -> str:
        return f"Client({self.client_id}, {self.name!r})"


def first_party(redirect_uris: Iterable[str]) -> Client:
    """Return our own apps' client. It is public: what ships in an app is no secret. Raises ValueError if an answer may not go there."""
    redirect_uris = tuple(redirect_uris)
    for uri in redirect_uris:
        if (wrong := wrong_redirect_uri(uri)) is not None:
            raise ValueError(f"{uri}: {wrong}")
    return Client(
        client_id=FIRST_PARTY,
        name="Fitness",
        redirect_uris=redirect_uris,
        grant_types=(REFRESH_TOKEN, AUTHORIZATION_CODE, DEVICE_CODE, TOKEN_EXCHANGE),
        scopes=USER_SCOPES,
    )


def registered(
    *,
    client_id: str,
    name: str,
    redirect_uris: Collection[str],
    grant_types: Collection[GrantType],
    scopes: Collection[str],
    secret_digest: bytes | None,
    now_ms: int,
) -> Client:
    """Raises InvalidBody naming every member that cannot be so."""
    name = unicodedata.normalize("NFC", " ".join(name.split()))
    wrong = [
        *_wrong_name(name),
        *_wrong_redirects(redirect_uris, needed=AUTHORIZATION_CODE in grant_types),
        *_wrong_grants(grant_types, confidential=secret_digest is not None),
        *_wrong_scopes(scopes, grant_types),
    ]
    if wrong:
        raise InvalidBody(*wrong)
    return Client(
        client_id=client_id,
        name=name,
        redirect_uris=tuple(dict.fromkeys(redirect_uris)),
        grant_types=tuple(dict.fromkeys(grant_types)),
        scopes=tuple(dict.fromkeys(scopes)),
        secret_digest=secret_digest,
        created_at_ms=now_ms,
    )


def wrong_redirect_uri(uri: str) -> str | None:
    """Say why an answer may not go there."""
    if len(uri) > MAX_REDIRECT_URI or not _VISIBLE.fullmatch(uri) or "\\" in uri:
        return f"It has 1 to {MAX_REDIRECT_URI} characters, none of them spaces, backslashes or beyond ASCII."
    if "#" in uri:
        return "It has no fragment (RFC 6749 section 3.1.2)."
    parts = _split(uri)
    if parts is None:
        return "This is not a URI."
    if parts.username is not None or parts.password is not None:
        return "It names no user."
    if parts.scheme == "https":
        host = parts.netloc if parts.port is None else parts.netloc.rpartition(":")[0]
        return None if _HOST.fullmatch(host) else "It names no host."
    if parts.scheme == "http":
        return None if parts.hostname in _LOOPBACK else "Without TLS it is http://127.0.0.1 or http://[::1] (RFC 8252)."
    if not _PRIVATE_SCHEME.fullmatch(uri.partition(":")[0]):
        return "A scheme of one's own is a domain name reversed, in lower case, such as com.example.app (RFC 8252)."
    return None


def may_be_sent_to(client: Client, uri: str) -> bool:
    """RFC 9700 section 2.1: compared as text, but for the port of a loopback address."""
    return wrong_redirect_uri(uri) is None and any(_same(known, uri) for known in client.redirect_uris)


def _same(known: str, uri: str) -> bool:
    return known == uri or ((portless := _without_port(known)) is not None and portless == _without_port(uri))


def _without_port(uri: str) -> str | None:
    """None: not a loopback redirect."""
    parts = _split(uri)
    if parts is None or parts.scheme != "http" or parts.hostname not in _LOOPBACK:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if parts.netloc not in {host, f"{host}:{parts.port}"}:
        return None
    return f"http://{host}{uri[len('http://') + len(parts.netloc) :]}"


def _split(uri: str) -> SplitResult | None:
    try:
        parts = urlsplit(uri)
        _ = parts.port  # reads the number
    except ValueError:
        return None
    # A scheme is compared without case, but ours are compared as text.
    return parts if parts.scheme and uri.startswith(f"{parts.scheme}:") else None


def _wrong_name(name: str) -> list[Invalid]:
    printable = all(unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn"} for character in name)
    if 1 <= len(name) <= MAX_NAME and printable:
        return []
    # Format characters too: the name stands on the consent page, where it must not turn the text around.
    return [Invalid("/name", f"A name has 1 to {MAX_NAME} characters that can be seen.")]


def _wrong_redirects(uris: Collection[str], *, needed: bool) -> list[Invalid]:
    if needed and not uris:
        return [Invalid("/redirect_uris", "authorization_code needs at least one.")]
    if len(uris) > MAX_REDIRECT_URIS:
        return [Invalid("/redirect_uris", f"At most {MAX_REDIRECT_URIS}.")]
    found = ((index, wrong_redirect_uri(uri)) for index, uri in enumerate(uris))
    return [Invalid(f"/redirect_uris/{index}", wrong) for index, wrong in found if wrong is not None]


def _wrong_grants(grant_types: Collection[str], *, confidential: bool) -> list[Invalid]:
    if not set(grant_types) - {REFRESH_TOKEN}:
        return [Invalid("/grant_types", "At least one of authorization_code, device_code and client_credentials.")]
    if CLIENT_CREDENTIALS in grant_types and not confidential:
        return [Invalid("/grant_types", "client_credentials needs a confidential client.")]
    return []


def _wrong_scopes(scopes: Collection[str], grant_types: Collection[str]) -> list[Invalid]:
    allowed: set[str] = set()
    if CLIENT_CREDENTIALS in grant_types:
        allowed |= set(SERVICE_SCOPES)
    if {AUTHORIZATION_CODE, DEVICE_CODE} & set(grant_types):
        allowed |= set(USER_SCOPES)
    if not scopes:
        return [Invalid("/scopes", "At least one.")]
    return [
        Invalid(f"/scopes/{index}", "This is not a scope that these grants can give.")
        for index, scope in enumerate(scopes)
        if scope not in allowed
    ]
