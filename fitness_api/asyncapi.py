"""The AsyncAPI 3 description of what goes over WebSockets, made from the Structs that are encoded and decoded.

    published = document(public_url=settings.public_url)

Source: AsyncAPI Specification 3.0.0; JSON Schema 2020-12.
"""

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec.json import schema_components

from fitness_api.close_codes import CloseCode
from fitness_api.hint_messages import FROM_CLIENT, FROM_SERVER

_REF: Final = "#/components/schemas/{name}"
_CHANNEL: Final = "syncLive"

_CLOSE_CODES: Final = {
    CloseCode.MALFORMED: "malformed: never reconnect",
    CloseCode.NOT_AUTHORISED: "the token has expired, or its session has ended: reconnect with a new token",
    CloseCode.SILENT: "60 s without a frame or pong: reconnect with jitter",
    CloseCode.TOO_LARGE: "a message over 16 KiB: never reconnect",
    CloseCode.BEYOND_LIMITS: "too many frames, or connections of this account: reconnect with jitter",
    CloseCode.DRAINING: "the gateway stops; the reason is `after_ms=<n>`: reconnect after so long",
}


def document(*, public_url: str) -> dict[str, Any]:
    said = (*FROM_SERVER, *FROM_CLIENT)
    _, schemas = schema_components(said, ref_template=_REF)
    url = urlsplit(public_url)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Fitness backend: live",
            "version": "1",
            "description": (
                "WebSockets without subprotocol or extension; messages are JSON text. A refused upgrade is HTTP 401, 403, 410 or 503 "
                "with RFC 9457 problem details, as in `/openapi.json`. The server pings every 20 s. On close codes outside 4400 to "
                "4499 reconnect with jitter. A message of an unknown type is to be ignored."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "gateway": {
                "host": url.netloc,
                "protocol": "wss" if url.scheme == "https" else "ws",
                **({"pathname": url.path.rstrip("/")} if url.path.rstrip("/") else {}),
                "security": [{"$ref": "#/components/securitySchemes/bearer"}],
            }
        },
        "channels": {
            _CHANNEL: {
                "address": "/v1/sync/live",
                "title": "Live hints",
                "description": "Says when to sync. Close codes: "
                + "; ".join(f"{code.value} {meaning}" for code, meaning in _CLOSE_CODES.items())
                + ".",
                "servers": [{"$ref": "#/servers/gateway"}],
                "messages": {_name(one): {"$ref": f"#/components/messages/{_name(one)}"} for one in said},
                "bindings": {"ws": {"method": "GET"}},
            }
        },
        "operations": {
            "hear": _operation("send", "The server says that something changed, and answers.", FROM_SERVER),
            "renew": _operation("receive", "The client gives a newer access token.", FROM_CLIENT),
        },
        "components": {
            "messages": {
                _name(one): {
                    "name": _name(one),
                    "title": one.__name__,
                    "summary": (one.__doc__ or "").strip(),
                    "payload": {"$ref": _REF.format(name=one.__name__)},
                }
                for one in said
            },
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An access token of scope `sync` in the Authorization header of the upgrade.",
                }
            },
        },
    }


def _operation(action: str, summary: str, messages: Iterable[type]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{_CHANNEL}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{_CHANNEL}/messages/{_name(one)}"} for one in messages],
    }


def _name(message: Any) -> str:
    """Return the message's `type`."""
    return str(message.__struct_config__.tag)
