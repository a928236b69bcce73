"""What a request shows of its sender's key (RFC 9449)."""

from typing import Any

from starlette.requests import HTTPConnection

from fitness_api.identity.dpop import Asked

HEADER = "DPoP"
NONCE_HEADER = "DPoP-Nonce"


def asked_of(connection: HTTPConnection[Any]) -> Asked | None:
    """None: it has no proof. The URL is the public one, whatever stands before this process."""
    proofs = connection.headers.getlist(HEADER)
    if not proofs:
        return None
    scope = connection.scope
    path = scope.get("raw_path") or scope["path"].encode()
    url = connection.state["settings"].public_url.rstrip("/") + path.decode("latin-1")
    return Asked(method=scope.get("method", "GET"), url=url, proofs=proofs)


async def key_thumbprint_of(connection: HTTPConnection[Any]) -> str | None:
    """Return the key that the tokens of a login are to be bound to; None: none is offered. To be asked once a request.

    Raises DpopProofInvalid, or StoreUnavailable.
    """
    asked = asked_of(connection)
    thumbprint: str | None = None
    if asked is not None:
        thumbprint = await connection.state["possession"].of_login(asked)
    return thumbprint
