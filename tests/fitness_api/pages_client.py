"""A browser without a screen: it keeps cookies and sends the forms that it was shown."""

import re
from html import unescape

import httpx

from tests.fitness_api.client import CREDENTIALS

_FORM = re.compile(r'<form method="(post|get)" action="([^"]*)">(.*?)</form>', re.DOTALL)
_INPUT = re.compile(r'<input (?:id="[^"]*" )?(?:type="hidden" )?name="([^"]*)"(?: type="[^"]*")? value="([^"]*)"')


def form_of(answer: httpx.Response, action: str) -> dict[str, str]:
    """Return the fields of the page's form that goes there, as they stand."""
    found = [inner for _, where, inner in _FORM.findall(answer.text) if unescape(where) == action]
    assert found, answer.text
    return {unescape(name): unescape(value) for name, value in _INPUT.findall(found[0])}


async def send(api: httpx.AsyncClient, page: httpx.Response, action: str, **typed: str) -> httpx.Response:
    return await api.post(action, data={**form_of(page, action), **typed})


async def log_in(api: httpx.AsyncClient, page: httpx.Response, **typed: str) -> httpx.Response:
    """Follow a page to the login, log in, and return where that led."""
    assert page.status_code == 303, page.text
    assert page.headers["location"].startswith("/v1/oauth/login?next=")
    shown = await api.get(page.headers["location"])
    assert shown.status_code == 200, shown.text
    done = await send(api, shown, "/v1/oauth/login", **{**CREDENTIALS, **typed})
    assert done.status_code == 303, done.text
    return await api.get(done.headers["location"])
