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
    `recent_login`: the login, not only the token, must be young, and in an app of our own. `if_deleted(request, user_id)` serves a token of an account
    that was erased, which any other operation refuses.
    `limits` are the flows (`fitness_api.limits.policies`) that a request counts against; left out, `requests` of the account, or
    `anonymous` where nobody is logged in. `if_limited` answers what they refuse where a problem is not the operation's form.
    `is_repeatable`: a POST that may be sent again as it is, so that nothing has to be kept of it where it has an Idempotency-Key.
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
    is_repeatable: bool = False
    limits: tuple[str, ...] | None = None
    if_limited: Callable[[Exception], Response] | None = None

    @property
    def flows(self) -> tuple[str, ...]:
        if self.limits is not None:
            return self.limits
        return ("requests",) if self.login else ("anonymous",)
