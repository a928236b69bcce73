"""The port's bullets, over real HTTP."""

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest
from starlette.responses import RedirectResponse, Response, StreamingResponse

from fitness_api.identity.federation import fetcher_httpx2
from fitness_api.identity.federation.fetcher import FetchFailed
from fitness_api.identity.federation.fetcher_httpx2 import MAX_ANSWER_BYTES, BoundedTransport, Httpx2Fetcher
from tests.fitness_api.identity.federation.issuing import Issuing, issuing, json


@pytest.fixture
async def served() -> AsyncIterator[Issuing]:
    async with issuing() as issuer:
        yield issuer


@pytest.fixture
async def fetcher() -> AsyncIterator[Httpx2Fetcher]:
    transport = BoundedTransport()
    yield Httpx2Fetcher(transport)
    await transport.close()


async def test_an_answer_comes_whole(fetcher: Httpx2Fetcher, served: Issuing) -> None:
    served.answers["/jwks"] = Response(b"x" * MAX_ANSWER_BYTES)
    assert await fetcher.get(f"{served.url}/jwks") == b"x" * MAX_ANSWER_BYTES


async def test_a_large_answer_is_left_unread(fetcher: Httpx2Fetcher, served: Issuing) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 65536
            await asyncio.sleep(0.001)  # its reader is on the same loop

    served.answers["/jwks"] = StreamingResponse(endless())
    with pytest.raises(FetchFailed, match="large"):
        await fetcher.get(f"{served.url}/jwks")
    assert sent * 65536 < 4 * MAX_ANSWER_BYTES


async def test_a_slow_answer_is_not_waited_for(
    fetcher: Httpx2Fetcher, served: Issuing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher_httpx2, "TIMEOUT_S", 0.2)

    async def drops() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    served.answers["/jwks"] = StreamingResponse(drops())
    with pytest.raises(FetchFailed, match="long"):
        await fetcher.get(f"{served.url}/jwks")


@pytest.mark.parametrize(
    "answer", [json({}, status=201), json({}, status=404), json({}, status=500), RedirectResponse("/elsewhere")]
)
async def test_only_200_is_an_answer(fetcher: Httpx2Fetcher, served: Issuing, answer: Response) -> None:
    served.answers["/jwks"] = answer
    with pytest.raises(FetchFailed):
        await fetcher.get(f"{served.url}/jwks")
    assert served.asked == {"/jwks": 1}


async def test_a_compressed_answer_is_none(fetcher: Httpx2Fetcher, served: Issuing) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    served.answers["/jwks"] = Response(bomb, headers={"Content-Encoding": "gzip"})
    with pytest.raises(FetchFailed, match="compressed"):
        await fetcher.get(f"{served.url}/jwks")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "file:///etc/passwd", "http://", "gopher://127.0.0.1/", "http://[::1", ""]
)
async def test_where_nobody_answers(fetcher: Httpx2Fetcher, url: str) -> None:
    with pytest.raises(FetchFailed):
        await fetcher.get(url)
