"""The driver itself, on a page that has been there for long."""

import pytest

from tests.browser.chromium import BrowserError, Page
from tests.fitness_api.gateway import Gateway


async def test_a_page_is_loaded_and_read(page: Page, site: Gateway) -> None:
    await page.goto(f"http://localhost:{site.port}/docs")
    assert await page.heading() == "Fitness backend"
    await page.press("problem details")
    assert await page.url() == f"http://localhost:{site.port}/problems"


async def test_what_is_not_there_is_told(page: Page, site: Gateway) -> None:
    await page.goto(f"http://localhost:{site.port}/docs")
    with pytest.raises(BrowserError, match="nothing to press called Never"):
        await page.press("Never")
    with pytest.raises(BrowserError, match="no field labelled Never"):
        await page.fill("Never", "x")
