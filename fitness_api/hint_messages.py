"""What is said on `GET /v1/sync/live`, as JSON text.

{"type":"changed"}
{"type":"token","access_token":"…"}  →  {"type":"token_accepted","expires_in":600}
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from fitness_api.identity.access_tokens import MAX_TOKEN_BYTES


class Changed(Struct, frozen=True, tag_field="type", tag="changed"):
    """Something new landed in the account: sync now. Says no more, and several may be told as one."""


class TokenAccepted(Struct, frozen=True, tag_field="type", tag="token_accepted"):
    """The connection now lasts as long as this token: `expires_in` seconds."""

    expires_in: int


class Refused(Struct, frozen=True, tag_field="type", tag="error"):
    """One message was refused; the connection, and the token it had, stay."""

    code: Literal["unauthenticated", "insufficient_scope", "unknown_message", "unavailable"]
    detail: str


class Token(Struct, frozen=True, tag_field="type", tag="token"):
    """A newer access token of the same account, before the one in use expires."""

    access_token: Annotated[str, Meta(max_length=MAX_TOKEN_BYTES)]


FROM_SERVER: Final = (Changed, TokenAccepted, Refused)
FROM_CLIENT: Final = (Token,)


class Malformed(Exception):
    """Not a message: no JSON object with a `type`, or a known type with wrong members."""


class _Typed(Struct):
    type: str


_typed: Final = msgspec.json.Decoder(_Typed)
_token: Final = msgspec.json.Decoder(Token)
_encoder: Final = msgspec.json.Encoder()


def encode(message: Changed | TokenAccepted | Refused) -> str:
    return _encoder.encode(message).decode()


def decode(text: str) -> Token | None:
    """None: a message of a type that is not known here, a newer client's. Raises Malformed."""
    try:
        return _token.decode(text) if _typed.decode(text).type == "token" else None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None
