"""One row of the route table: what `app` serves, and what `openapi` publishes, are read from the same value."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.responses import Response

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    name: str
    where: Literal["path", "query", "header"]
    description: str
    type: Any = str
    required: bool = False


@dataclass(frozen=True, kw_only=True)
class Media:
    """A body that is not a Struct: its media types, for the published description."""

    types: tuple[str, ...]
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """`handler(request)`, or `handler(request, principal)` where `login` is set.

    `scope` is the OAuth scope a caller's token needs; `login` without a scope takes any valid token.
    `body` is a msgspec type, a `Media`, or None. `answers` maps a status to a msgspec type, a `Media`, or None (empty).
    `recent_login`: the login, not only the token, must be young. `if_deleted(request, user_id)` serves a token of an account
    that was erased, which any other operation refuses.
    `problems` lists the problem codes that are this operation's own; those of every operation are left out.
    """

    method: Method
    path: str
    handler: Callable[..., Awaitable[Response]]
    tag: str
    summary: str
    description: str = ""
    login: bool = False
    scope: str | None = None
    recent_login: bool = False
    if_deleted: Callable[..., Awaitable[Response]] | None = None
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    answers: Mapping[int, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
