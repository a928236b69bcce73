"""The readable face of the description: one page without a script, a font or a request elsewhere, so it works offline.

Pure: from the OpenAPI document and the catalogue of problems to HTML.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any, Final

from fitness_api.problems import Problem

_METHODS: Final = ("get", "post", "put", "patch", "delete")

# A type may name itself; an example need not.
_EXAMPLE_DEPTH: Final = 4

_MUST: Final = '<span class="must">required</span>'


@dataclass(frozen=True)
class Page:
    """`content_security_policy` allows this page's own style by its hash, and nothing else."""

    html: str
    content_security_policy: str


def docs(document: Mapping[str, Any]) -> Page:
    schemas = document["components"]["schemas"]
    groups: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                groups[item[method]["tags"][0]].append((method, path, item[method]))
    base = document["servers"][0]["url"]
    info = document["info"]
    body = "".join(
        f'<section id="{_anchor(tag)}"><h2>{escape(tag)}</h2>'
        + "".join(_operation(method, path, one, schemas, base) for method, path, one in group)
        + "</section>"
        for tag, group in groups.items()
    )
    types = "".join(_type(name, schema) for name, schema in schemas.items())
    security = document["components"]["securitySchemes"]["bearer"]["description"]
    return _page(
        info["title"],
        '<a class="skip" href="#main">Skip to the operations</a><div class="frame">'
        + _nav(info["title"], groups)
        + f'<main id="main"><h1>{escape(info["title"])}</h1><p>{escape(info["summary"])} {_prose(info["description"])}</p>'
        f'<p>The same as <a href="/openapi.json">OpenAPI 3.1</a>; WebSockets are in <a href="/asyncapi.json">AsyncAPI 3</a>. Errors are <a href="/problems">problem details</a>.</p>'
        f'<section id="authorization"><h2>Authorization</h2>{_list(security)}</section>'
        f'{body}<section id="types"><h2>Types</h2>{types}</section></main></div>',
    )


def problem(one: Problem) -> Page:
    return _page(
        one.title,
        f'<main class="alone">{_problem(one, heading="h1")}<p><a href="/problems">All problems</a></p></main>',
    )


def problems(catalogue: Iterable[Problem]) -> Page:
    listed = sorted(catalogue, key=lambda one: (one.status, one.code))
    rows = "".join(f'<article id="{one.slug}">{_problem(one, heading="h2")}</article>' for one in listed)
    return _page(
        "Problems",
        '<main class="alone"><h1>Problems</h1><p>Every error is RFC 9457 problem details. '
        f'<code>code</code> never changes.</p>{rows}<p><a href="/docs">Operations</a></p></main>',
    )


def _page(title: str, body: str) -> Page:
    style = files("fitness_api").joinpath("docs_page.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return Page(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{style}</style></head><body>{body}</body></html>',
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    )


def _problem(one: Problem, *, heading: str) -> str:
    members = "".join(f" <code>{escape(member)}</code>" for member in one.members)
    return (
        f"<{heading}>{escape(one.title)}</{heading}><p><code>{one.code}</code> <span class='badge'>{one.status}</span></p>"
        f"<dl><dt>What it means</dt><dd>{_prose(one.meaning)}</dd><dt>What to do</dt><dd>{_prose(one.remedy)}</dd>"
        + (f"<dt>Carries</dt><dd>{members}</dd>" if members else "")
        + "</dl>"
    )


def _nav(title: str, groups: Mapping[str, Sequence[tuple[str, str, Mapping[str, Any]]]]) -> str:
    short = "".join(f'<li><a href="#{_anchor(tag)}">{escape(tag)}</a></li>' for tag in [*groups, "Types"])
    full = "".join(
        f'<h2>{escape(tag)}</h2><ul class="operations">'
        + "".join(
            f'<li><a href="#{one["operationId"]}"><span class="method {method}">{method.upper()}</span>{escape(one["summary"])}</a></li>'
            for method, _, one in group
        )
        + "</ul>"
        for tag, group in groups.items()
    )
    return (
        f'<nav aria-label="Operations"><a class="home" href="#main">{escape(title)}</a><ul class="groups">{short}</ul>{full}'
        '<h2>More</h2><ul class="operations"><li><a href="#types">Types</a></li><li><a href="/problems">Problems</a></li></ul></nav>'
    )


def _operation(method: str, path: str, one: Mapping[str, Any], schemas: Mapping[str, Any], base: str) -> str:
    identifier = one["operationId"]
    parts = [
        (
            f'<article id="{identifier}"><h3><span class="method {method}">{method.upper()}</span>'
            f'<a href="#{identifier}"><code>{_breakable(path)}</code></a></h3>'
            f'<p><span class="summary">{escape(one["summary"])}</span> {_access(one["security"])}</p>'
        )
    ]
    if one.get("description"):
        parts.append(f"<p>{_prose(one['description'])}</p>")
    if parameters := one.get("parameters"):
        rows = [
            _row(
                each["name"],
                _type_name(each["schema"]),
                f"{each['description']} (in the {each['in']})",
                flag=_MUST if each["required"] else "",
            )
            for each in parameters
        ]
        parts.append("<h4>Parameters</h4>" + _table(rows))
    if body := one.get("requestBody"):
        parts.append("<h4>Request body</h4>" + _content(body["content"], schemas, sent=True))
    parts.append("<h4>Answers</h4>")
    problems: list[tuple[str, str]] = []
    for status, answer in one["responses"].items():
        examples = answer.get("content", {}).get("application/problem+json", {}).get("examples")
        if examples is not None:
            problems += [(status, code) for code in examples]
            continue
        parts.append(f"<p><code>{status}</code> {_prose(answer['description'])}</p>")
        if "content" in answer:
            parts.append(_content(answer["content"], schemas))
    links = "".join(
        f'<li><span>{status}</span> <a href="/problems/{code.replace("_", "-")}"><code>{code}</code></a></li>'
        for status, code in problems
    )
    parts.append(f'<h4>Problems</h4><ul class="codes">{links}</ul>')
    parts.append(f"<h4>Try it</h4><pre><code>{escape(curl(method, path, one, schemas, base))}</code></pre></article>")
    return "".join(parts)


def _access(security: Sequence[Mapping[str, Sequence[str]]]) -> str:
    if not security:
        return '<span class="badge">no login</span>'
    scopes = security[0]["bearer"]
    return '<span class="badge">' + (f"scope <code>{escape(scopes[0])}</code>" if scopes else "any token") + "</span>"


def _content(content: Mapping[str, Any], schemas: Mapping[str, Any], *, sent: bool = False) -> str:
    media_types = ", ".join(f"<code>{escape(name)}</code>" for name in content)
    schema = next(iter(content.values())).get("schema")
    if schema is None:
        return f"<p>{media_types}</p>"
    return f"<p>{_type_name(schema)} as {media_types}</p>" + _fields(_resolve(schema, schemas), sent=sent)


def _type(name: str, schema: Mapping[str, Any]) -> str:
    described = f"<p>{_prose(schema['description'])}</p>" if schema.get("description") else ""
    fields = _fields(schema) or f"<p>{_type_name(schema)}</p>"
    return f'<article id="type-{escape(name)}"><h3><code>{escape(name)}</code></h3>{described}{fields}</article>'


def _flag(required: bool, *, sent: bool) -> str:
    """Tell a sender what must be there, and a reader what may be missing."""
    if sent:
        return _MUST if required else ""
    return "" if required else '<span class="may">may be missing</span>'


def _fields(schema: Mapping[str, Any], *, sent: bool = False) -> str:
    required = set(schema.get("required", ()))
    rows = [
        # An answer's field with a default is still there, unless the default is what stands for nothing.
        _row(
            name,
            _type_name(field),
            _described(field),
            flag=_flag(name in required or (not sent and bool(field.get("default"))), sent=sent),
        )
        for name, field in schema.get("properties", {}).items()
    ]
    return _table(rows) if rows else ""


def _described(field: Mapping[str, Any]) -> str:
    said = str(field.get("description", ""))
    default = field.get("default", ...)
    if default not in (..., None, "", [], {}):
        said = f"{said} Default: `{json.dumps(default, ensure_ascii=False)}`.".strip()
    return said


def _row(name: str, type_name: str, description: str, *, flag: str = "") -> str:
    meaning = f"<p>{_prose(description)}</p>" if description else ""
    return f'<tr><th scope="row"><code>{escape(name)}</code> {flag}</th><td>{type_name}{meaning}</td></tr>'


def _table(rows: Iterable[str]) -> str:
    return f'<div class="wide"><table><tbody>{"".join(rows)}</tbody></table></div>'


def _type_name(schema: Mapping[str, Any]) -> str:
    """Return a few words of HTML for a schema."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f'<a href="#type-{escape(name)}">{escape(name)}</a>'
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return " or ".join(_type_name(one) for one in schema[union])
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return " · ".join(f"<code>{escape(str(one))}</code>" for one in schema["enum"])
    kind = schema.get("type", "any JSON")
    if kind == "array":
        inner = schema.get("items") or None
        return "list" + (f" of {_type_name(inner)}" if isinstance(inner, Mapping) else "") + _bounds(schema, "Items")
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"map to {_type_name(schema['additionalProperties'])}"
    named = " or ".join(kind) if isinstance(kind, list) else str(kind)
    form = schema.get("format") or schema.get("contentEncoding")
    bounds = _bounds(schema, "Length") or _bounds(schema, "")
    return escape(f"{named} ({form})" if form else named) + bounds


def _bounds(schema: Mapping[str, Any], what: str) -> str:
    least = schema.get(f"min{what}" if what else "minimum")
    most = schema.get(f"max{what}" if what else "maximum")
    unit = {"Length": " characters", "Items": " items"}.get(what, "")
    if least is not None and most is not None:
        return f", {least} to {most}{unit}"
    if most is not None:
        return f", at most {most}{unit}"
    return "" if least is None else f", at least {least}{unit}"


def _resolve(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in schema:
        found: Mapping[str, Any] = schemas[schema["$ref"].rsplit("/", 1)[1]]
        return found
    return schema


def curl(method: str, path: str, one: Mapping[str, Any], schemas: Mapping[str, Any], base: str) -> str:
    """Return a command that can be pasted: $NAME stands for what only the caller has."""
    url = base.rstrip("/") + path.replace("{", "$").replace("}", "")
    words = ["curl" if method == "get" else f"curl -X {method.upper()}", f'"{url}"' if "$" in url else url]
    if one["security"]:
        words.append('-H "Authorization: Bearer $ACCESS_TOKEN"')
    content: Mapping[str, Any] = one.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        example = json.dumps(_example(content["application/json"].get("schema", {}), schemas), ensure_ascii=False)
        words += ["-H 'Content-Type: application/json'", "-d '" + example.replace("'", "'\\''") + "'"]
    elif "application/x-www-form-urlencoded" in content:
        words.append(_FORMS.get(path, "-d client_id=$CLIENT_ID"))
    elif content:
        words += [f"-H 'Content-Type: {next(iter(content))}'", "--data-binary @file"]
    return " \\\n  ".join(words)


def _example(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int = 0) -> Any:
    """Return what the schema itself gives as an example, else the least that it takes."""
    if schema.get("examples"):
        return schema["examples"][0]
    schema = _resolve(schema, schemas)
    if schema.get("examples"):
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return _example(options[0], schemas, depth)
    properties = schema.get("properties")
    if properties:
        required = schema.get("required") or list(properties)
        if depth >= _EXAMPLE_DEPTH:
            return {}
        return {name: _example(properties[name], schemas, depth + 1) for name in required if name in properties}
    match schema.get("type"):
        case "string":
            return _TEXT.get(schema.get("format", ""), "…")
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return False
        case "array":
            inner = schema.get("items")
            few = isinstance(inner, Mapping) and depth < _EXAMPLE_DEPTH
            return [_example(inner, schemas, depth + 1)] if few and inner else []
        case "null":
            return None
    return {}


# What a form of OAuth says, where it is more than who sends it.
_FORMS: Final[Mapping[str, str]] = {
    "/v1/oauth/token": "-d grant_type=refresh_token -d refresh_token=$REFRESH_TOKEN",
    "/v1/oauth/revoke": "-d token=$REFRESH_TOKEN",
    "/v1/oauth/introspect": "-u $CLIENT_ID:$CLIENT_SECRET -d token=$ACCESS_TOKEN",
}

_TEXT: Final[Mapping[str, str]] = {
    "uuid": "0190f3a1-6f5e-7c3b-9d0a-3c5f6a7b8c9d",
    "date-time": "2026-03-01T07:30:00.000Z",
    "email": "mara@example.org",
}


def _prose(text: str) -> str:
    """Escape, with `code` between backticks."""
    pieces = escape(text, quote=False).split("`")
    if len(pieces) % 2 == 0:
        return "`".join(pieces)
    return "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))


def _list(text: str) -> str:
    """A paragraph, with the lines that begin with a dash as a list."""
    lines = text.split("\n")
    items = "".join(f"<li>{_prose(line[2:])}</li>" for line in lines if line.startswith("- "))
    lead = " ".join(line for line in lines if not line.startswith("- "))
    return f"<p>{_prose(lead)}</p><ul>{items}</ul>"


def _breakable(path: str) -> str:
    return escape(path).replace("/", "/<wbr>")


def _anchor(tag: str) -> str:
    return (
        "group-" + "".join(letter if letter.isalnum() else "-" for letter in tag.lower()) if tag != "Types" else "types"
    )
