"""What ties a page to the browser that it was shown in: cookies, and the token that only a page of ours knows.

A browser sends its cookies with whatever form it is made to send, so each form carries a token as well: a MAC over the
cookies that it was rendered for. It changes with the login, and before a login too there is one (login forgery).
"""

import hmac
import secrets
from base64 import urlsafe_b64encode
from typing import Any, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from starlette.requests import HTTPConnection
from starlette.responses import Response

BROWSER: Final = "browser"  # a random name of the browser; tells nothing, and goes when it is closed
LOGIN: Final = "login"  # the access token of a login on the pages
MFA: Final = "mfa"  # a login that waits for its second factor

_SCOPE: Final = "fitness_api.browser"
_SECRET_BYTES: Final = 32


def derive_key(master_key: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"fitness form tokens v1").derive(master_key)


def cookie(connection: HTTPConnection[Any], name: str) -> str | None:
    return connection.cookies.get(_named(connection, name)) or None


def set_cookie(
    connection: HTTPConnection[Any],
    response: Response,
    name: str,
    value: str,
    *,
    max_age_s: int | None,
    posted_from_elsewhere: bool = False,
) -> None:
    """Lax: a link from an app or a mail opens a page of ours, and its own page posts nothing to us, unless
    `posted_from_elsewhere` says so; without https that is not to be had.
    """
    response.set_cookie(
        _named(connection, name),
        value,
        max_age=max_age_s,
        path="/",
        secure=_https(connection),
        httponly=True,
        samesite="none" if posted_from_elsewhere and _https(connection) else "lax",
    )


def drop_cookie(connection: HTTPConnection[Any], response: Response, name: str) -> None:
    if cookie(connection, name) is not None:
        response.delete_cookie(
            _named(connection, name), path="/", secure=_https(connection), httponly=True, samesite="lax"
        )


def form_token(connection: HTTPConnection[Any]) -> str:
    """Return what a form that is shown now has to carry back."""
    key: bytes = connection.state["form_key"]
    named = "\0".join((_browser(connection), cookie(connection, LOGIN) or "", cookie(connection, MFA) or ""))
    return urlsafe_b64encode(hmac.digest(key, named.encode(), "sha256")).decode("ascii")


def is_own(connection: HTTPConnection[Any], token: str) -> bool:
    """Whether a form came from a page that was shown in this browser, under this login."""
    if cookie(connection, BROWSER) is None:
        return False
    # Of browsers that say so: a form of another site's page is none of ours, whatever it knows.
    if connection.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return False
    return hmac.compare_digest(form_token(connection).encode(), token.encode())


def name(connection: HTTPConnection[Any], response: Response) -> None:
    """Give a browser that has none its name."""
    if cookie(connection, BROWSER) is None:
        set_cookie(connection, response, BROWSER, _browser(connection), max_age_s=None)


def _browser(connection: HTTPConnection[Any]) -> str:
    known = cookie(connection, BROWSER)
    if known is not None:
        return known
    drawn: str = connection.scope.setdefault(_SCOPE, secrets.token_urlsafe(_SECRET_BYTES))
    return drawn


def _named(connection: HTTPConnection[Any], name: str) -> str:
    # The prefix keeps other hosts of the domain from setting it (RFC 6265bis section 4.1.3.2); browsers take it over https only.
    return f"__Host-{name}" if _https(connection) else name


def _https(connection: HTTPConnection[Any]) -> bool:
    public_url: str = connection.state["settings"].public_url
    return public_url.startswith("https:")
