"""A person logs in, allows an app something, and logs a watch in, in a real browser."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from tests.browser.chromium import Page
from tests.fitness_api.client import CREDENTIALS
from tests.fitness_api.gateway import Gateway
from tests.fitness_api.oauth import asking, client, redeeming

Database = AsyncDatabase[dict[str, Any]]

# Where to leave what the pages look like; nowhere unless it is set.
PICTURES = os.environ.get("FITNESS_TEST_PICTURES")

_FITS = "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"
_NAMELESS = """() => [...document.querySelectorAll("input:not([type=hidden]), button, a")]
    .filter((one) => !(one.labels?.length || one.innerText?.trim())).map((one) => one.outerHTML)"""


@asynccontextmanager
async def coach() -> AsyncIterator[tuple[str, asyncio.Queue[str]]]:
    """An app on this computer: it waits for its answer on a loopback address."""
    got: asyncio.Queue[str] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readline()).decode().split(" ")[1]
        while (await reader.readline()).strip():
            pass
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<h1>Coach</h1>")
        await writer.drain()
        writer.close()
        if path.startswith("/done"):
            got.put_nowait(path)

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/done", got


@pytest.fixture
async def http(site: Gateway, database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """What the app and the watch say themselves; ada@example.org has an account."""
    async with httpx.AsyncClient(base_url=f"http://localhost:{site.port}", trust_env=False) as client:
        assert (await client.post("/v1/auth/register", json=CREDENTIALS)).status_code == 201
        await database["accounts"].update_many({}, {"$set": {"email_verified": True}})
        yield client


async def log_in(page: Page, password: str = CREDENTIALS["password"]) -> None:
    await page.fill("Email address", CREDENTIALS["email"])
    await page.fill("Password", password)
    await page.press("Log in")


async def look(page: Page, name: str) -> None:
    """Check what every page keeps to, in the narrowest window and in the dark too, and leave a picture."""
    assert await page.evaluate(_NAMELESS) == []
    assert await page.evaluate("() => document.documentElement.lang") == "en"
    for width, dark in ((320, False), (320, True), (800, False)):
        await page.resize(width, 700, dark=dark)
        assert await page.evaluate(_FITS), f"{name} at {width}"
        if PICTURES:
            picture = await page.screenshot()
            (Path(PICTURES) / f"{name}-{width}{'-dark' if dark else ''}.png").write_bytes(picture)
    refused = [entry["entry"]["text"] for entry in page.seen("Log.entryAdded")]
    assert not [text for text in refused if "Content Security Policy" in text or "Refused" in text], refused


async def test_a_user_allows_an_app(page: Page, http: httpx.AsyncClient, database: Database) -> None:
    async with coach() as (redirect_uri, got):
        app = await client(database, redirect_uris=("http://127.0.0.1/done",), name="Coach & Co <i>")
        await page.goto(f"{http.base_url}/v1/oauth/authorize?{urlencode(asking(app, redirect_uri=redirect_uri))}")
        assert await page.heading() == "Log in"
        await look(page, "login")
        await log_in(page, "wrong horse")
        assert "The address or the password is wrong." in await page.text()
        assert await page.focused() == "password"
        await look(page, "login-wrong")
        await page.fill("Password", CREDENTIALS["password"])
        await page.press("Log in")
        assert await page.heading() == "Allow Coach & Co <i> to use your account?"
        await look(page, "consent")
        await page.press("Allow")
        assert await page.heading() == "Coach"
        given = dict(parse_qsl(urlsplit(await got.get()).query))
        assert given["iss"] == str(http.base_url).rstrip("/")
        form = redeeming(app, given["code"], redirect_uri=redirect_uri)
        tokens = await http.post("/v1/oauth/token", data=form)
        assert tokens.status_code == 200, tokens.text
        await page.goto(f"{http.base_url}/v1/oauth/authorize?{urlencode(asking(app, redirect_uri=redirect_uri))}")
        await page.press("Do not allow")
        assert "error=access_denied" in await got.get()


async def test_a_user_logs_a_watch_in(page: Page, http: httpx.AsyncClient) -> None:
    headers = {"User-Agent": "Fitness/1.0 (Pixel Watch 4; Wear OS 6)"}
    began = await http.post("/v1/oauth/device_authorization", data={"client_id": "app"}, headers=headers)
    device = began.json()
    await page.goto(device["verification_uri"])
    await log_in(page)
    assert await page.heading() == "Log a device in"
    await look(page, "device")
    await page.fill("Code that the device shows", "bcdf ghjk")
    await page.press("Continue")
    assert "No device waits by this code." in await page.text()
    assert await page.focused() == "user_code"
    await look(page, "device-wrong")
    await page.fill("Code that the device shows", device["user_code"].lower())
    await page.press("Continue")
    assert await page.heading() == "Log this device in?"
    shown = await page.text()
    assert device["user_code"] in shown
    assert "Pixel Watch 4" in shown
    await look(page, "device-question")
    await page.press("Yes, log it in")
    assert await page.heading() == "The device is logged in"
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": device["device_code"]}
    assert (await http.post("/v1/oauth/token", data=form)).status_code == 200


async def test_a_keyboard_is_enough(page: Page, http: httpx.AsyncClient, database: Database) -> None:
    async with coach() as (redirect_uri, got):
        app = await client(database, redirect_uris=("http://127.0.0.1/done",))
        await page.goto(f"{http.base_url}/v1/oauth/authorize?{urlencode(asking(app, redirect_uri=redirect_uri))}")
        await page.key("Tab")
        assert await page.focused() == "email"
        assert await page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
        await page.command("Input.insertText", text=CREDENTIALS["email"])
        await page.key("Tab")
        await page.command("Input.insertText", text=CREDENTIALS["password"])
        await page.key("Enter", loads=True)
        assert (await page.heading()).startswith("Allow ")
        reached = []
        for _ in range(3):
            await page.key("Tab")
            reached.append(await page.evaluate("() => document.activeElement.innerText"))
        assert reached == ["Allow", "Do not allow", "Use another account"]
        await page.goto(f"{http.base_url}/v1/oauth/authorize?{urlencode(asking(app, redirect_uri=redirect_uri))}")
        await page.key("Tab")
        await page.key("Space", loads=True)
        assert "code=" in await got.get()


async def test_a_page_of_somebody_else_frames_and_sends_nothing(page: Page, http: httpx.AsyncClient) -> None:
    await page.goto(f"{http.base_url}/v1/oauth/device")
    await log_in(page)
    began = await http.post("/v1/oauth/device_authorization", data={"client_id": "app"})
    device = began.json()
    # Another origin on the same machine: another port is another origin, and the same site.
    async with coach() as (elsewhere, _):
        await page.goto(elsewhere.removesuffix("/done"))
        await page.evaluate(
            """(url, action, code) => {
                const form = document.createElement("form");
                form.method = "post"; form.action = action; form.id = "forged";
                for (const [name, value] of Object.entries({user_code: code, decision: "allow", form_token: "x"})) {
                    const input = document.createElement("input");
                    input.name = name; input.value = value; form.append(input);
                }
                const button = document.createElement("button");
                button.innerText = "Win"; form.append(button); document.body.append(form);
                const frame = document.createElement("iframe");
                frame.src = url; document.body.append(frame);
                return new Promise((loaded) => { frame.onload = () => loaded(); });
            }""",
            device["verification_uri_complete"],
            f"{http.base_url}/v1/oauth/device/decision",
            device["user_code"],
        )
        assert any("frame-ancestors" in str(entry) for entry in page.seen("Log.entryAdded"))
        await page.press("Win")
        assert await page.heading() == "The page is out of date"
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": device["device_code"]}
    assert (await http.post("/v1/oauth/token", data=form)).json()["error"] == "authorization_pending"
