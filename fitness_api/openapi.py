"""The OpenAPI 3.1 description, made from the table of operations: what is served is what is published.

    published = document(OPERATIONS, public_url=settings.public_url)

Source: OpenAPI Specification 3.1.1; JSON Schema 2020-12.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec.json import schema_components

from fitness_api.bodies import MEDIA_TYPES
from fitness_api.operation import Media, Operation, Parameter
from fitness_api.problems import CATALOGUE, INTERNAL_ERROR, Problem
from fitness_api.problems import MEDIA_TYPE as PROBLEM_MEDIA_TYPE

_REF: Final = "#/components/schemas/{name}"

SCOPES: Final[Mapping[str, str]] = {
    "sync": "Synchronise the user's documents",
    "workouts:read": "Read workouts, tracks and statistics",
    "workouts:write": "Write workouts and tracks, and import files",
    "live:publish": "Publish live sessions",
    "live:watch": "Watch live sessions that the user may see",
    "notifications": "Manage reminders, preferences and the inbox",
    "account": "Manage the account, its devices and its sessions",
    "analytics:read": "Query the warehouse",
    "admin": "Run campaigns and register clients",
}

# What any operation of a kind may answer; an operation lists only its own.
_WITH_BODY: Final = ("malformed_body", "invalid_body", "body_too_large", "unsupported_media_type")
_WITH_LOGIN: Final = ("unauthenticated", "account_deleted")
_WITH_STRUCTS: Final = ("not_acceptable",)
_WITH_KEY: Final = (
    "idempotency_key_invalid",
    "idempotency_key_reused",
    "request_in_progress",
    "idempotency_answer_lost",
    "unavailable",
)

_IDEMPOTENCY_KEY: Final = Parameter(
    name="Idempotency-Key",
    where="header",
    description=(
        "A UUID, say. The same request sent again under its key within 24 hours is not done again and gets the same answer, with "
        "`Idempotency-Replayed: true`; another body under the key is 422."
    ),
)

_PROBLEM_SCHEMA: Final[Mapping[str, Any]] = {
    "title": "Problem",
    "description": "RFC 9457 problem details. `code` is stable; `type` is a page that says what to do.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {
            "type": "string",
            "description": "For people: what was wrong with this very request, where that can be said.",
        },
        "code": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"},
        "request_id": {"type": "string", "description": "As in X-Request-Id; name it to support."},
        "errors": {
            "type": "array",
            "description": "Each place in the body that is wrong.",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {
                    "pointer": {"type": "string", "format": "json-pointer"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}

_HEADERS: Final[Mapping[str, Any]] = {
    "X-Request-Id": {"description": "The request's id, yours if you sent a sane one.", "schema": {"type": "string"}},
    "ETag": {"description": "Send it in If-None-Match to get 304 while nothing changed.", "schema": {"type": "string"}},
    "RateLimit": {
        "description": "What is left: `r` of each quota, all of which is there again after `t` seconds.",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "What the request counts against: `q` in `w` seconds. draft-ietf-httpapi-ratelimit-headers.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds to wait before sending again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"description": "RFC 6750.", "schema": {"type": "string"}},
    "Allow": {"description": "The methods that the path takes.", "schema": {"type": "string"}},
}


def document(operations: Sequence[Operation], *, public_url: str) -> dict[str, Any]:
    shapes = _shapes(operations)
    schemas, components = schema_components(shapes, ref_template=_REF)
    schema_of = dict(zip(map(_key, shapes), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in sorted(operations, key=lambda one: (one.path, one.method)):
        path = paths.setdefault(operation.path, {})
        path[operation.method.lower()] = _operation(operation, schema_of, public_url)
    scopes = sorted({operation.scope for operation in operations if operation.scope})
    return {
        "openapi": "3.1.1",
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "info": {
            "title": "Fitness backend",
            "version": "1",
            "summary": "Accounts, offline sync, and workouts from recordings, for a fitness app.",
            "description": (
                "Bodies are JSON or msgpack, chosen by Content-Type and Accept, and may be compressed with gzip, zstd or br. "
                "Errors are RFC 9457 problem details. Instants are RFC 3339 in UTC, durations seconds, units SI."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": public_url.rstrip("/")}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in operations)],
        "paths": paths,
        "components": {
            "schemas": {**dict(sorted(components.items())), "Problem": dict(_PROBLEM_SCHEMA)},
            "headers": dict(_HEADERS),
            "securitySchemes": _security_schemes(operations, scopes),
        },
    }


def operation_id(operation: Operation) -> str:
    """Return a name made of method and path alone, so that renaming a handler renames nothing in generated clients."""
    words = re.sub(r"\{(\w+)\}", r"by_\1", operation.path)
    return "_".join([operation.method.lower(), *re.findall(r"[A-Za-z0-9]+", words.removeprefix("/v1"))])


def _security_schemes(operations: Iterable[Operation], scopes: Sequence[str]) -> dict[str, Any]:
    listed = {scope: SCOPES.get(scope, scope) for scope in scopes}
    lines = "".join(f"\n- `{scope}`: {meaning}" for scope, meaning in listed.items())
    schemes: dict[str, Any] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": (
                "An RFC 9068 access token in the Authorization header. One that is bound to a key (RFC 9449) is sent as "
                "Authorization: DPoP, with a proof in the DPoP header; a proof that does not hold is answered by "
                f"`invalid_dpop_proof` or `use_dpop_nonce`. Scopes:{lines}"
            ),
        }
    }
    served = {operation.path for operation in operations}
    # Published only once there is a page to send a browser to.
    if {"/v1/oauth/authorize", "/v1/oauth/token"} <= served:
        schemes["oauth2"] = {
            "type": "oauth2",
            "flows": {
                "authorizationCode": {
                    "authorizationUrl": "/v1/oauth/authorize",
                    "tokenUrl": "/v1/oauth/token",
                    "refreshUrl": "/v1/oauth/token",
                    "scopes": listed,
                }
            },
        }
    return schemes


def _shapes(operations: Iterable[Operation]) -> list[Any]:
    """Return every type that is to have a schema, once."""
    found: dict[str, Any] = {}
    for operation in operations:
        wanted = [operation.body, *operation.answers.values(), *(parameter.type for parameter in operation.parameters)]
        for shape in wanted:
            if shape is not None and not isinstance(shape, Media):
                found.setdefault(_key(shape), shape)
    return list(found.values())


def _key(shape: Any) -> str:
    # list[X] is a new object wherever it is written, and Annotated may hold what cannot be hashed; repr tells them apart
    # by module and name.
    return repr(shape)


def _operation(operation: Operation, schema_of: Mapping[str, Any], public_url: str) -> dict[str, Any]:
    out: dict[str, Any] = {
        "operationId": operation_id(operation),
        "tags": [operation.tag],
        "summary": operation.summary,
    }
    if operation.description:
        out["description"] = operation.description
    out["security"] = [{"bearer": [operation.scope] if operation.scope else []}] if operation.login else []
    if parameters := [_parameter(one, schema_of) for one in _parameters(operation)]:
        out["parameters"] = parameters
    if operation.body is not None:
        out["requestBody"] = {"required": True, "content": _content(operation.body, schema_of)}
    responses: dict[str, Any] = {}
    for status, answer in sorted(operation.answers.items()):
        headers = ["X-Request-Id", *(("RateLimit", "RateLimit-Policy") if operation.flows else ())]
        if operation.method == "GET" and status == 200:
            headers.append("ETag")
            responses["304"] = {
                "description": "Unchanged since the ETag in If-None-Match.",
                "headers": _headers(headers),
            }
        responses[str(status)] = {
            "description": answer.description if isinstance(answer, Media) and answer.description else _said(status),
            "headers": _headers(headers),
        }
        if answer is not None:
            responses[str(status)]["content"] = _content(answer, schema_of)
    for refused, problems in _problems(operation).items():
        responses[refused] = _problem_response(problems, public_url)
    out["responses"] = dict(sorted(responses.items()))
    return out


def _parameters(operation: Operation) -> list[Parameter]:
    """Return the declared parameters, and those of the path that nobody described."""
    declared = {(one.where, one.name) for one in operation.parameters}
    bare = [name for name in re.findall(r"\{(\w+)\}", operation.path) if ("path", name) not in declared]
    key = [_IDEMPOTENCY_KEY] if operation.method == "POST" else []
    return [*operation.parameters, *key, *(Parameter(name=name, where="path", description="") for name in bare)]


def _parameter(parameter: Parameter, schema_of: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.description,
        "required": parameter.required or parameter.where == "path",
        "schema": schema_of.get(_key(parameter.type), {"type": "string"}),
    }


def _content(shape: Any, schema_of: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(shape, Media):
        return {media_type: {} for media_type in shape.types}
    return {media_type: {"schema": schema_of[_key(shape)]} for media_type in MEDIA_TYPES.values()}


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _said(status: int) -> str:
    return {200: "Done.", 201: "Made.", 202: "Taken; it goes on.", 204: "Done; there is nothing to say."}.get(
        status, "Answered."
    )


def _problems(operation: Operation) -> dict[str, list[Problem]]:
    codes = [*operation.problems]
    if operation.login:
        codes += _WITH_LOGIN + (("insufficient_scope",) if operation.scope else ())
        codes += ("reauthentication_required",) if operation.recent_login else ()
    if operation.body is not None:
        codes += _WITH_BODY
    if any(answer is not None and not isinstance(answer, Media) for answer in operation.answers.values()):
        codes += _WITH_STRUCTS
    if operation.method == "POST":
        codes += _WITH_KEY
    if operation.flows and operation.if_limited is None:
        codes.append("too_many_requests")
    if "{" in operation.path:
        codes.append("not_found")
    grouped: dict[str, list[Problem]] = {}
    for code in dict.fromkeys([*codes, INTERNAL_ERROR.code]):
        problem = CATALOGUE[code]
        grouped.setdefault(str(problem.status), []).append(problem)
    return grouped


def _problem_response(problems: Sequence[Problem], public_url: str) -> dict[str, Any]:
    headers = ["X-Request-Id"]
    if problems[0].status in {429, 503}:
        headers.append("Retry-After")
    if problems[0].status == 429:
        headers += ("RateLimit", "RateLimit-Policy")
    if problems[0].status == 401:
        headers.append("WWW-Authenticate")
    return {
        "description": "; or ".join(problem.title for problem in problems) + ".",
        "headers": _headers(headers),
        "content": {
            PROBLEM_MEDIA_TYPE: {
                "schema": {"$ref": _REF.format(name="Problem")},
                "examples": {
                    problem.code: {"summary": problem.title, "value": _example(problem, public_url)}
                    for problem in problems
                },
            }
        },
    }


def _example(problem: Problem, public_url: str) -> dict[str, Any]:
    return {
        "type": f"{public_url.rstrip('/')}/problems/{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "request_id": "0190f3a1-6f5e-7c3b-9d0a-3c5f6a7b8c9d",
        **problem.constants,
    }
