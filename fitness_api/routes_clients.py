"""Registering the clients of the authorization server: for who holds the scope `admin`."""

from typing import Annotated, Final
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from fitness_api import bodies
from fitness_api.errors import Invalid, InvalidBody, NotFound
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.authorization.clients import (
    MAX_NAME,
    MAX_REDIRECT_URI,
    MAX_REDIRECT_URIS,
    Client,
    GrantType,
)
from fitness_api.operation import Operation, Parameter
from fitness_api.resources import Resources

MAX_LISTED: Final = 200
_DEFAULT_LISTED: Final = 50
_ROOM: Final = 4  # for what is trimmed before it is measured


class Registration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """redirect_uris are compared letter by letter, but for the port of http://127.0.0.1 and http://[::1]."""

    name: Annotated[str, Meta(max_length=MAX_NAME * _ROOM, description="As users read it when they are asked.")]
    redirect_uris: Annotated[
        list[Annotated[str, Meta(max_length=MAX_REDIRECT_URI)]], Meta(max_length=MAX_REDIRECT_URIS)
    ] = []
    grant_types: Annotated[list[GrantType], Meta(min_length=1, max_length=8)]
    scopes: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(min_length=1, max_length=32)]
    confidential: bool = False


class RegisteredClient(Struct, frozen=True, kw_only=True):
    """`client_secret` is there in the answer to the registration of a confidential client only: it is not kept."""

    client_id: str
    name: str
    redirect_uris: tuple[str, ...]
    grant_types: tuple[str, ...]
    scopes: tuple[str, ...]
    confidential: bool
    created_at: str
    client_secret: str | UnsetType = UNSET


class ClientList(Struct, frozen=True, kw_only=True):
    """By their ids. `cursor` asks for the next page; null at the end."""

    clients: list[RegisteredClient]
    cursor: str | None


async def register_client(request: Request[Resources], principal: Principal) -> Response:  # noqa: ARG001  the scope is all that counts
    body = await bodies.read(request, Registration)
    client, secret = await request.state["registrations"].register(
        name=body.name,
        redirect_uris=body.redirect_uris,
        grant_types=body.grant_types,
        scopes=body.scopes,
        confidential=body.confidential,
    )
    return bodies.respond(request, _shown(client, secret), status=201)


async def list_clients(request: Request[Resources], principal: Principal) -> Response:  # noqa: ARG001  the same
    limit, after = _page(request)
    found = await request.state["registrations"].clients(after=after, limit=limit + 1)
    page = found[:limit]
    cursor = page[-1].client_id if len(found) > limit else None
    return bodies.respond(request, ClientList(clients=[_shown(client, None) for client in page], cursor=cursor))


async def remove_client(request: Request[Resources], principal: Principal) -> Response:  # noqa: ARG001  the same
    if not await request.state["registrations"].remove(request.path_params["client_id"]):
        raise NotFound("client")
    return Response(status_code=204)


def _page(request: Request[Resources]) -> tuple[int, str]:
    limit, cursor = request.query_params.get("limit", str(_DEFAULT_LISTED)), request.query_params.get("cursor", "")
    if not (limit.isascii() and limit.isdecimal() and len(limit) < 4 and 1 <= int(limit) <= MAX_LISTED):
        raise InvalidBody(Invalid("/limit", f"This is a number from 1 to {MAX_LISTED}."))
    if len(cursor) > 64:
        raise InvalidBody(Invalid("/cursor", "This is not a cursor of ours."))
    return int(limit), cursor


def _shown(client: Client, secret: str | None) -> RegisteredClient:
    return RegisteredClient(
        client_id=client.client_id,
        name=client.name,
        redirect_uris=client.redirect_uris,
        grant_types=client.grant_types,
        scopes=client.scopes,
        confidential=client.confidential,
        created_at=bodies.rfc3339(client.created_at_ms),
        client_secret=UNSET if secret is None else secret,
    )


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/v1/oauth/clients",
        handler=register_client,
        tag="OAuth",
        summary="Register a client",
        description=(
            "A redirect URI is https, http to 127.0.0.1 or [::1] on any port, or of a scheme that is a domain name reversed "
            "(com.example.app), and has no fragment. A confidential client's secret is shown once. Scopes of users are given by "
            "authorization_code and device_code, `analytics:read` and `admin` by client_credentials."
        ),
        login=True,
        scope="admin",
        body=Registration,
        answers={201: RegisteredClient},
        problems=("too_many_clients", "unavailable"),
    ),
    Operation(
        method="GET",
        path="/v1/oauth/clients",
        handler=list_clients,
        tag="OAuth",
        summary="List the clients",
        login=True,
        scope="admin",
        parameters=(
            Parameter(name="cursor", where="query", description="As the page before gave it."),
            Parameter(name="limit", where="query", description=f"At most {MAX_LISTED}.", type=int),
        ),
        answers={200: ClientList},
        problems=("invalid_body", "unavailable"),
    ),
    Operation(
        method="DELETE",
        path="/v1/oauth/clients/{client_id}",
        handler=remove_client,
        tag="OAuth",
        summary="Remove a client",
        description="Its codes and refresh tokens are refused from now on, and its sessions end. After a 503 send the same request again.",
        login=True,
        scope="admin",
        parameters=(
            Parameter(
                name="client_id", where="path", description="As answered at registration.", type=UUID, required=True
            ),
        ),
        answers={204: None},
        problems=("unavailable",),
    ),
)
