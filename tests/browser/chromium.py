"""Drives a Chromium by its DevTools protocol: the few commands that a person's hands need, and `Page.command` for the rest.

Not Playwright: it brings 53 MB and a Node of its own, and is made for the Chromium of its own release, not the system's.
"""

import asyncio
import json
import os
import shutil
import signal
from base64 import b64decode
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
PATIENCE_S = 30

Json = dict[str, Any]

_BY_LABEL = """
(label) => {
    const found = [...document.querySelectorAll("label")].find((one) => one.innerText.trim() === label);
    if (!found || !found.control) throw new Error("no field labelled " + label + " in: " + document.body.innerText);
    found.control.value = "";
    found.control.focus();
}
"""
_PLACE = """
(name) => {
    const found = [...document.querySelectorAll("button, a, summary")]
        .find((one) => one.innerText.trim() === name && one.getClientRects().length);
    if (!found) throw new Error("nothing to press called " + name + " in: " + document.body.innerText);
    found.scrollIntoView({block: "center"});
    const box = found.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
}
"""


class BrowserError(Exception):
    """The browser refused a command, or a script threw."""


class Connection:
    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._next = 0
        self._answers: dict[int, asyncio.Future[Json]] = {}
        self._awaited: dict[tuple[str | None, str], list[asyncio.Future[Json]]] = defaultdict(list)
        self.seen: list[Json] = []  # every event, for tests that look back

    async def run(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            if "id" in message:
                answer = self._answers.pop(message["id"])
                if not answer.done():
                    answer.set_result(message)
                continue
            self.seen.append(message)
            for waiting in self._awaited.pop((message.get("sessionId"), message["method"]), []):
                if not waiting.done():
                    waiting.set_result(message["params"])

    async def command(self, method: str, session: str | None = None, **parameters: Any) -> Json:
        self._next += 1
        message: Json = {"id": self._next, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        answer = self._answers[self._next] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps(message))
        async with asyncio.timeout(PATIENCE_S):
            answered = await answer
        if "error" in answered:
            raise BrowserError(f"{method}: {answered['error']}")
        result: Json = answered["result"]
        return result

    def event(self, method: str, session: str | None = None) -> asyncio.Future[Json]:
        waiting: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._awaited[session, method].append(waiting)
        return waiting


class Page:
    """One tab, in a browser context that shares no cookies with others."""

    def __init__(self, connection: Connection, session: str) -> None:
        self._connection = connection
        self._session = session

    async def command(self, method: str, **parameters: Any) -> Json:
        return await self._connection.command(method, self._session, **parameters)

    async def event(self, method: str) -> Json:
        async with asyncio.timeout(PATIENCE_S):
            return await self._connection.event(method, self._session)

    def seen(self, method: str) -> list[Json]:
        """Return what such events told so far."""
        return [
            one["params"]
            for one in self._connection.seen
            if one.get("sessionId") == self._session and one["method"] == method
        ]

    async def goto(self, url: str) -> None:
        loaded = self._connection.event("Page.loadEventFired", self._session)
        answer = await self.command("Page.navigate", url=url)
        if "errorText" in answer:
            raise BrowserError(f"{url}: {answer['errorText']}")
        async with asyncio.timeout(PATIENCE_S):
            await loaded

    async def evaluate(self, function: str, *arguments: Any) -> Any:
        """Call a JavaScript function with these arguments, awaiting what it promises."""
        expression = f"({function})(...{json.dumps(arguments)})"
        answer = await self.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise BrowserError(answer["exceptionDetails"].get("exception", {}).get("description", str(answer)))
        return answer["result"].get("value")

    async def url(self) -> str:
        return str(await self.evaluate("() => location.href"))

    async def text(self) -> str:
        return str(await self.evaluate("() => document.body.innerText"))

    async def heading(self) -> str:
        return str(await self.evaluate("() => document.querySelector('h1')?.innerText ?? ''"))

    async def focused(self) -> str:
        """Return the id of what has the focus, which a page that asks for it gets a moment after it was loaded."""
        async with asyncio.timeout(10):
            while not (found := str(await self.evaluate("() => document.activeElement?.id ?? ''"))):
                await asyncio.sleep(0.05)
        return found

    async def fill(self, label: str, text: str) -> None:
        """Type into the field with this label."""
        await self.evaluate(_BY_LABEL, label)
        await self.command("Input.insertText", text=text)

    async def press(self, name: str, *, loads: bool = True) -> None:
        """Click the button or link of this name, and wait for the page that it leads to."""
        x, y = await self.evaluate(_PLACE, name)
        loaded = self._connection.event("Page.loadEventFired", self._session)
        for kind in ("mousePressed", "mouseReleased"):
            await self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        if loads:
            async with asyncio.timeout(PATIENCE_S):
                await loaded

    async def key(self, key: str, *, loads: bool = False) -> None:
        """Press Tab, Enter or Space."""
        text, code = {"Tab": ("", 9), "Enter": ("\r", 13), "Space": (" ", 32)}[key]
        loaded = self._connection.event("Page.loadEventFired", self._session) if loads else None
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            await self.command(
                "Input.dispatchKeyEvent",
                type=kind,
                key=text if key == "Space" else key,
                code=key,
                windowsVirtualKeyCode=code,
                **more,
            )
        if loaded is not None:
            async with asyncio.timeout(PATIENCE_S):
                await loaded

    async def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        await self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.command("Emulation.setEmulatedMedia", features=[scheme])

    async def screenshot(self) -> bytes:
        return b64decode((await self.command("Page.captureScreenshot", format="png"))["data"])


class Browser:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def page(self) -> AsyncIterator[Page]:
        context = (await self._connection.command("Target.createBrowserContext"))["browserContextId"]
        try:
            target = (
                await self._connection.command("Target.createTarget", url="about:blank", browserContextId=context)
            )["targetId"]
            attached = await self._connection.command("Target.attachToTarget", targetId=target, flatten=True)
            page = Page(self._connection, attached["sessionId"])
            for domain in ("Page", "Runtime", "Log", "Network"):
                await page.command(f"{domain}.enable")
            yield page
        finally:
            await self._connection.command("Target.disposeBrowserContext", browserContextId=context)


def program() -> str:
    """Raises FileNotFoundError if there is no Chromium here."""
    names = (os.environ["FITNESS_TEST_CHROMIUM"],) if "FITNESS_TEST_CHROMIUM" in os.environ else PROGRAMS
    for name in names:
        if (found := shutil.which(name)) is not None:
            return found
    raise FileNotFoundError(
        "These tests need a Chromium: scripts/chromium installs Debian's (as root), FITNESS_TEST_CHROMIUM names another. "
        "Without one: scripts/test --ignore tests/browser"
    )


@asynccontextmanager
async def running(data: Path) -> AsyncIterator[Browser]:
    """Run a browser with its profile in `data`."""
    process = await asyncio.create_subprocess_exec(
        program(),
        "--headless=new",
        "--no-sandbox",  # the tests may run as root, and load no page but ours
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--remote-debugging-port=0",
        f"--user-data-dir={data}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not (file := data / "DevToolsActivePort").exists() or file.read_text().count("\n") < 1:
                assert process.returncode is None, f"{program()} ended with {process.returncode}"
                await asyncio.sleep(0.05)
        port, path = file.read_text().split("\n")[:2]
        async with connect(f"ws://127.0.0.1:{port}{path}", proxy=None, max_size=None, compression=None) as socket:
            connection = Connection(socket)
            reading = asyncio.create_task(connection.run())
            try:
                yield Browser(connection)
            finally:
                with suppress(BrowserError, TimeoutError):
                    await connection.command("Browser.close")
                reading.cancel()
                with suppress(asyncio.CancelledError):
                    await reading
    finally:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await process.wait()
        except TimeoutError:
            # The group: its own processes outlive the first one.
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
