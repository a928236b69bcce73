"""The shell of every page: no script unless it asks for a file of ours, nothing from elsewhere, never in a frame."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import HTMLResponse

from fitness_api.pages import assets, browser
from fitness_api.pages.markup import Markup, join, markup

_STYLE: Final = "page.css"

_SHELL: Final = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
    '<title>{title}</title><link rel="icon" href="data:,"><link rel="stylesheet" href="{style}">{scripts}</head>'
    "<body><main><h1>{title}</h1>{body}</main></body></html>"
)


def render(
    request: Request[Any],
    title: str,
    body: Markup,
    *,
    status: int = 200,
    form_targets: tuple[str, ...] = (),
    scripts: tuple[str, ...] = (),
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """Answer with a page.

    form_targets: CSP sources that an answer to one of its forms may redirect to, besides ourselves. scripts: names of
    files beside this one.
    """
    found = assets.all_of_them()
    page = markup(
        _SHELL,
        title=title,
        style=found[_STYLE].url,
        scripts=join(markup('<script src="{url}" defer></script>', url=found[name].url) for name in scripts),
        body=body,
    )
    response = HTMLResponse(page, status_code=status, headers=_headers(form_targets, scripted=bool(scripts)))
    response.headers.update(headers or {})
    browser.name(request, response)
    return response


def _headers(form_targets: tuple[str, ...], *, scripted: bool) -> dict[str, str]:
    policy = [
        "default-src 'none'",
        "style-src 'self'",
        "img-src data:",  # the empty icon, so that nobody is asked for another
        *(("script-src 'self'", "connect-src 'self'") if scripted else ()),
        " ".join(("form-action 'self'", *form_targets)),
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
    return {
        "Content-Security-Policy": "; ".join(policy),
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        # Not no-referrer: under it browsers send forms with `Origin: null`.
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
        "Vary": "Cookie",
    }
