"""What the gateway itself refuses. Domain errors live in their packages; `problems` maps all of them to HTTP.

ApiError
  ├─ MalformedBody          the body is not JSON/msgpack, or not compressed as it claims
  ├─ InvalidBody            the body is well-formed and wrong; carries JSON Pointers
  ├─ BodyTooLarge           over the bound, before or after decompression
  ├─ UnsupportedMediaType   Content-Type or Content-Encoding that we do not read
  ├─ NotAcceptable          Accept that we cannot write
  ├─ NotAuthenticated       no token, or one that does not hold
  ├─ InsufficientScope      a valid token without the scope
  ├─ NotFound               no such thing for this caller
  ├─ ForgedForm             a form that is not of a page that we showed to this browser
  ├─ NoWayBack              a login page that leads back to no page of ours
  ├─ UpgradeRequired        a path that is a WebSocket, asked as if it were none
  ├─ ExportInProgress       another export of the account is under way
  ├─ TooManyConnections     the process holds as many WebSockets as it may
  └─ NotReady               a part that every request needs does not answer; names each part

IdempotencyRefusal                apart from ApiError, because no endpoint puts it in words of its own
  ├─ IdempotencyKeyInvalid     a key that is none
  ├─ IdempotencyKeyReused      the key came with another body before
  ├─ RequestInProgress         the key's first request is not answered yet
  ├─ IdempotencyAnswerLost     the key's request was done, and its answer is not kept
  └─ IdempotencyUnavailable    whether the key was used cannot be told now
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class ApiError(Exception):
    """Base of the gateway's own refusals; never raised itself."""


class MalformedBody(ApiError):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)


@dataclass(frozen=True)
class Invalid:
    """One thing wrong with a body: `pointer` is a JSON Pointer (RFC 6901) into it."""

    pointer: str
    detail: str


class InvalidBody(ApiError):
    def __init__(self, *errors: Invalid) -> None:
        super().__init__("; ".join(f"{error.pointer or '/'}: {error.detail}" for error in errors))
        self.errors = errors


class BodyTooLarge(ApiError):
    def __init__(self, *, limit_bytes: int) -> None:
        super().__init__(f"The body may be at most {limit_bytes} bytes, decoded.")
        self.limit_bytes = limit_bytes


class UnsupportedMediaType(ApiError):
    def __init__(self, *, got: str, supported: tuple[str, ...]) -> None:
        wrong = f"{got} is not supported" if got else "It has no Content-Type"
        super().__init__(f"{wrong}; send one of: {', '.join(supported)}.")


class NotAcceptable(ApiError):
    def __init__(self, *, got: str, supported: tuple[str, ...]) -> None:
        super().__init__(f"{got} cannot be answered; accept one of: {', '.join(supported)}.")


class NotAuthenticated(ApiError):
    """`error` is the OAuth error code of RFC 6750 section 3.1, left out of the header when no token came."""

    def __init__(self, detail: str, *, error: str | None = "invalid_token") -> None:
        super().__init__(detail)
        self.error = error


class InsufficientScope(ApiError):
    def __init__(self, scope: str) -> None:
        super().__init__(f"This needs the scope {scope}.")
        self.scope = scope


class NotFound(ApiError):
    def __init__(self, what: str) -> None:
        super().__init__(f"There is no such {what}.")


class ForgedForm(ApiError):
    def __init__(self) -> None:
        super().__init__("This page is out of date. Go back, load it again and try once more.")


class ExportInProgress(ApiError):
    def __init__(self) -> None:
        super().__init__("An export of this account is under way.")


class NoWayBack(ApiError):
    def __init__(self) -> None:
        super().__init__("This link is not whole.")


class UpgradeRequired(ApiError):
    def __init__(self) -> None:
        super().__init__("This path is a WebSocket.")


class TooManyConnections(ApiError):
    def __init__(self) -> None:
        super().__init__("This gateway holds as many connections as it may.")
        self.retry_after_s = 5


class NotReady(ApiError):
    """`dependencies`: what each part answered, by its name, ready to be shown."""

    def __init__(self, dependencies: Mapping[str, Any]) -> None:
        super().__init__("A part that every request needs does not answer.")
        self.dependencies = dependencies


class IdempotencyRefusal(Exception):
    """Base of what an Idempotency-Key may be refused for; never raised itself."""


class IdempotencyKeyInvalid(IdempotencyRefusal):
    def __init__(self, *, max_length: int) -> None:
        super().__init__(f"Idempotency-Key is 1 to {max_length} printable ASCII characters without quotes, given once.")


class IdempotencyKeyReused(IdempotencyRefusal):
    def __init__(self) -> None:
        super().__init__("This Idempotency-Key came with another body before.")


class RequestInProgress(IdempotencyRefusal):
    def __init__(self) -> None:
        super().__init__("A request with this Idempotency-Key is being served; its answer will be this one's too.")
        self.retry_after_s = 1


class IdempotencyAnswerLost(IdempotencyRefusal):
    def __init__(self) -> None:
        super().__init__("The request with this Idempotency-Key was done; its answer is not kept.")


class IdempotencyUnavailable(IdempotencyRefusal):
    def __init__(self) -> None:
        super().__init__("Whether this Idempotency-Key was used before cannot be told at the moment.")
        self.retry_after_s = 2
