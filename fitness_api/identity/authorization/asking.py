"""An authorization request: read, checked in the order in which its parts may be trusted, and answered.

Source: RFC 6749 section 4.1, RFC 7636, RFC 9207, RFC 9700.
"""

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final
from urllib.parse import urlencode

from msgspec import Struct

from fitness_api.identity.authorization.clients import AUTHORIZATION_CODE, Client, may_be_sent_to
from fitness_api.identity.scopes import USER_SCOPES

MAX_PARAMETERS: Final = 32
MAX_VALUE: Final = 2_048  # of one parameter; a URL has some 8 KiB in all

_S256: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # RFC 7636 section 4.2: SHA-256 in base64url
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636 section 4.1
_VISIBLE: Final = re.compile(r"[ -~]*")  # RFC 6749 appendix A.5

_UNSUPPORTED: Final = {"request": "request_not_supported", "request_uri": "request_uri_not_supported"}


class Asked(Struct, frozen=True, kw_only=True):
    """What a client asks a user for; all of it was checked. state: None where the client sent none."""

    client: Client
    redirect_uri: str
    scopes: tuple[str, ...]
    code_challenge: str
    state: str | None


class Untrusted(Struct, frozen=True):
    """Nothing may be sent to where the request says: tell whoever is there."""

    detail: str


class Refused(Struct, frozen=True, kw_only=True):
    """Sent back to the client. Source: RFC 6749 section 4.1.2.1."""

    redirect_uri: str
    error: str
    description: str
    state: str | None


def unique(pairs: Sequence[tuple[str, str]]) -> tuple[dict[str, str], frozenset[str]]:
    """Return the parameters, and the names of those that came more than once."""
    parameters: dict[str, str] = {}
    twice = set()
    for name, value in pairs:
        if name in parameters:
            twice.add(name)
        parameters[name] = value
    return parameters, frozenset(twice)


def read(
    parameters: Mapping[str, str], client: Client | None, *, twice: frozenset[str] = frozenset()
) -> Asked | Untrusted | Refused:
    """`client` is that of the parameter client_id, None where there is none."""
    if len(parameters) > MAX_PARAMETERS or any(len(value) > MAX_VALUE for value in parameters.values()):
        return Untrusted("The request is too long.")
    if client is None or "client_id" in twice:
        return Untrusted("The app that sent you here is not known.")
    redirect_uri = parameters.get("redirect_uri", "")
    if "redirect_uri" in twice or not may_be_sent_to(client, redirect_uri):
        return Untrusted(f"{client.name} asked for an answer at a place that is not known to be its own.")
    state = parameters.get("state") or None
    if "state" in twice or not _VISIBLE.fullmatch(state or ""):
        return _refused(redirect_uri, None, "invalid_request", "state is given twice, or is not of visible ASCII.")
    wrong = _wrong(parameters, client, twice)
    if wrong is not None:
        return _refused(redirect_uri, state, *wrong)
    asked_for = parameters.get("scope", "").split()
    scopes = tuple(scope for scope in client.scopes if scope in (asked_for or client.scopes) and scope in USER_SCOPES)
    if not scopes or set(asked_for) - set(scopes):
        return _refused(
            redirect_uri, state, "invalid_scope", "The client was not registered for a scope that it asks for."
        )
    return Asked(
        client=client,
        redirect_uri=redirect_uri,
        scopes=scopes,
        code_challenge=parameters["code_challenge"],
        state=state,
    )


def verifier_matches(verifier: str, challenge: str) -> bool:
    """RFC 7636 section 4.6."""
    if not _VERIFIER.fullmatch(verifier):
        return False
    digest = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode("ascii")
    return hmac.compare_digest(digest, challenge)


def with_code(asked: Asked, code: str, *, issuer: str) -> str:
    """Return where the user goes on to. `iss` tells the client whose code it is (RFC 9207)."""
    return _with(asked.redirect_uri, {"code": code, "state": asked.state, "iss": issuer})


def with_error(refused: Refused, *, issuer: str) -> str:
    description = "".join(c for c in refused.description if " " <= c <= "~" and c not in '"\\')
    return _with(
        refused.redirect_uri,
        {"error": refused.error, "error_description": description, "state": refused.state, "iss": issuer},
    )


def denied(asked: Asked, description: str = "The user did not allow it.") -> Refused:
    return _refused(asked.redirect_uri, asked.state, "access_denied", description)


def form_target(redirect_uri: str) -> str:
    """Return the CSP source of a redirect, which browsers ask for of what a form is answered by."""
    scheme, _, rest = redirect_uri.partition(":")
    if scheme not in {"http", "https"}:
        return f"{scheme}:"
    host = rest.removeprefix("//").partition("/")[0].partition("?")[0]
    # CSP has no way to write an IPv6 address.
    return "http:" if host.startswith("[") else f"{scheme}://{host}"


def _wrong(parameters: Mapping[str, str], client: Client, twice: frozenset[str]) -> tuple[str, str] | None:
    if twice:
        return "invalid_request", "A parameter is given more than once."
    for name, error in _UNSUPPORTED.items():
        if name in parameters:
            return error, f"{name} is not served."
    if AUTHORIZATION_CODE not in client.grant_types:
        return "unauthorized_client", "The client was not registered for authorization_code."
    match parameters.get("response_type"):
        case None | "":
            return "invalid_request", "response_type is missing."
        case "code":
            pass
        case _:
            return "unsupported_response_type", "response_type is code."
    if parameters.get("response_mode", "query") != "query":
        return "invalid_request", "response_mode is query."
    if parameters.get("code_challenge_method") != "S256":
        return "invalid_request", "code_challenge_method is S256 (RFC 7636)."
    if not _S256.fullmatch(parameters.get("code_challenge", "")):
        return "invalid_request", "code_challenge is SHA-256 in base64url (RFC 7636)."
    return None


def _refused(redirect_uri: str, state: str | None, error: str, description: str) -> Refused:
    return Refused(redirect_uri=redirect_uri, error=error, description=description, state=state)


def _with(uri: str, parameters: Mapping[str, str | None]) -> str:
    """RFC 6749 section 4.1.2: a query that is there stays."""
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    separator = "&" if "?" in uri and not uri.endswith(("?", "&")) else "" if uri.endswith(("?", "&")) else "?"
    return f"{uri}{separator}{query}"
