"""Forms come back from our own pages only: shown to this browser, under this login."""

import re
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fitness_api import pages
from fitness_api.errors import ForgedForm
from fitness_api.pages import assets, browser
from fitness_api.settings import Settings


def application(public_url: str) -> Any:
    settings = Settings(
        mongo_url="mongodb://x", redis_url="redis://x", master_key=b64encode(b"m" * 32).decode(), public_url=public_url
    )
    state = {"settings": settings, "form_key": browser.derive_key(b"m" * 32)}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request: Request[Any] = Request({**scope, "state": dict(state)}, receive)
        response: Response
        if request.method == "GET":
            made = pages.form(request, "/", pages.button("Go"))
            response = pages.render(request, "A page", made, form_targets=("https://client.example",), scripts=())
        else:
            try:
                form = await pages.read_form(request)
                response = Response(form["word"])
                if form["word"] == "log in":
                    browser.set_cookie(request, response, browser.LOGIN, "token", max_age_s=60)
            except ForgedForm:
                response = Response("forged", status_code=403)
        await response(scope, receive, send)

    return app


@pytest.fixture(params=["https://api.test", "http://api.test"])
async def visitor(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    url = request.param
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application(url)), base_url=url) as client:
        yield client


async def token_of(visitor: httpx.AsyncClient) -> str:
    found = re.search('name="form_token" value="([^"]+)"', (await visitor.get("/")).text)
    assert found is not None
    return found[1]


async def sent(visitor: httpx.AsyncClient, token: str, word: str = "hello", **headers: str) -> int:
    return (await visitor.post("/", data={"form_token": token, "word": word}, headers=headers)).status_code


async def test_a_form_that_we_showed_is_taken_again_and_again(visitor: httpx.AsyncClient) -> None:
    token = await token_of(visitor)
    assert [await sent(visitor, token), await sent(visitor, token)] == [200, 200]
    assert await token_of(visitor) == token


async def test_a_form_of_anybody_else_is_not(visitor: httpx.AsyncClient) -> None:
    token = await token_of(visitor)
    assert await sent(visitor, "") == 403
    assert await sent(visitor, token[:-3] + "AA=") == 403
    assert await sent(visitor, "é") == 403
    assert await sent(visitor, token, **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert await sent(visitor, token, **{"Sec-Fetch-Site": "same-site"}) == 403
    assert await sent(visitor, token, **{"Sec-Fetch-Site": "same-origin"}) == 200
    visitor.cookies.clear()
    assert await sent(visitor, token) == 403
    await token_of(visitor)  # another browser
    assert await sent(visitor, token) == 403


async def test_a_login_makes_earlier_forms_void(visitor: httpx.AsyncClient) -> None:
    token = await token_of(visitor)
    assert await sent(visitor, token, "log in") == 200
    assert await sent(visitor, token) == 403
    assert await sent(visitor, await token_of(visitor)) == 200


async def test_cookies_are_bound_to_the_host_and_no_script_reads_them(visitor: httpx.AsyncClient) -> None:
    answer = await visitor.get("/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-browser=" if str(visitor.base_url).startswith("https") else "browser=")
    assert ("Secure" in cookie) == str(visitor.base_url).startswith("https")
    assert {"HttpOnly", "Path=/", "SameSite=lax"} <= {part.strip() for part in cookie.split(";")}
    assert "Domain" not in cookie


async def test_a_page_may_load_and_run_nothing_and_is_never_framed(visitor: httpx.AsyncClient) -> None:
    answer = await visitor.get("/")
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "style-src": "'self'",
        "img-src": "data:",
        "form-action": "'self' https://client.example",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"
    assert "<script" not in answer.text
    assert " style=" not in answer.text
    assert '<html lang="en">' in answer.text
    assert "<h1>A page</h1>" in answer.text


def test_an_asset_is_named_by_what_it_holds() -> None:
    for name, asset in assets.all_of_them().items():
        assert re.fullmatch(rf"/pages/{re.escape(name)}\?v=[0-9a-f]{{16}}", asset.url)
