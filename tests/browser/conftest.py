"""A real browser before a gateway on a port: `page` and `site`.

The gateway calls itself http://localhost:<port>, which browsers take for a secure context.
"""

import socket
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api import app
from fitness_api.settings import Settings
from tests.browser import chromium
from tests.browser.chromium import Browser, Page
from tests.fitness_api.gateway import Gateway, gateway


@pytest.fixture(scope="session")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    async with chromium.running(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    async with browser.page() as opened:
        yield opened


@pytest.fixture
def smtp_url() -> str | None:
    """Who takes the gateway's mail: nobody, unless a test module says otherwise."""
    return None


@pytest.fixture
async def site(
    database: AsyncDatabase[dict[str, Any]], mongo_url: str, redis_url: str, smtp_url: str | None
) -> AsyncIterator[Gateway]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        settings = Settings(
            mongo_url=mongo_url,
            redis_url=redis_url,
            mongo_database=database.name,
            master_key=b64encode(b"m" * 32).decode(),
            public_url=f"http://localhost:{listener.getsockname()[1]}",
            password_hashers=1,
            smtp_url=smtp_url,
            unlimited_networks="127.0.0.0/8",
        )
        async with gateway(app.build(settings), listener) as served:
            yield served
