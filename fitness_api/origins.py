"""Where a request came from."""

from typing import Any, Final

from starlette.requests import HTTPConnection

from fitness_api.identity.audit import Origin

# What a person needs to recognise a browser. A header may have 64 KiB, and is kept with every event of the audit log.
MAX_USER_AGENT: Final = 200


def origin_of(connection: HTTPConnection[Any]) -> Origin:
    client = connection.client
    return Origin("" if client is None else client.host, connection.headers.get("user-agent", "")[:MAX_USER_AGENT])
