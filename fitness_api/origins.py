"""Where a request came from."""

from typing import Any

from starlette.requests import HTTPConnection

from fitness_api.identity.audit import Origin


def origin_of(connection: HTTPConnection[Any]) -> Origin:
    client = connection.client
    return Origin("" if client is None else client.host, connection.headers.get("user-agent", ""))
