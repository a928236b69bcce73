"""Over real HTTP, with a clock of the test's."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.responses import RedirectResponse, Response

from fitness_api.identity.errors import IdTokenInvalid, IssuerKeyUnknown, IssuerUnavailable
from fitness_api.identity.federation import providers
from fitness_api.identity.federation.fetcher_httpx2 import BoundedTransport, Httpx2Fetcher
from fitness_api.identity.federation.issuers import COOL_DOWN_MS, FRESH_MS, RETRY_MS, STALE_MS, Issuer
from fitness_api.settings import OidcProvider
from tests.fitness_api.identity.conftest import Clock
from tests.fitness_api.identity.federation.issuing import (
    AUDIENCE,
    Issuing,
    claims_of,
    issuing,
    json,
    jwk,
    rsa_key,
    signed,
)


@pytest.fixture
async def served() -> AsyncIterator[Issuing]:
    async with issuing() as issuer:
        yield issuer


@pytest.fixture
async def issuer(served: Issuing, clock: Clock) -> AsyncIterator[Issuer]:
    transport = BoundedTransport()
    provider = providers.of(OidcProvider(name="test", issuer=served.url, client_id=AUDIENCE))
    yield Issuer(provider, Httpx2Fetcher(transport), now_ms=clock)
    await transport.close()


def token(served: Issuing, clock: Clock, *, kid: str = "rsa-1", **changes: Any) -> str:
    return signed(claims_of(served.url, now_s=clock.now_ms // 1000, **changes), kid=kid)


async def test_keys_are_fetched_once_however_many_sign_in(issuer: Issuer, served: Issuing, clock: Clock) -> None:
    served.held = asyncio.Event()
    asking = [asyncio.create_task(issuer.verify(token(served, clock, sub=f"{n}"))) for n in range(50)]
    while not served.asked:
        await asyncio.sleep(0.01)
    served.held.set()
    assert [claims.subject for claims in await asyncio.gather(*asking)] == [f"{n}" for n in range(50)]
    assert served.asked == {"/.well-known/openid-configuration": 1, "/jwks": 1}


async def test_a_new_key_is_fetched_and_an_old_one_goes(issuer: Issuer, served: Issuing, clock: Clock) -> None:
    await issuer.verify(token(served, clock))
    served.keys = [jwk("rsa-2", rsa_key())]
    clock.advance(s=COOL_DOWN_MS / 1000)
    assert (await issuer.verify(token(served, clock, kid="rsa-2"))).subject == "subject-1"
    with pytest.raises(IssuerKeyUnknown):
        await issuer.verify(token(served, clock))
    assert served.fetches == 2


async def test_a_withdrawn_key_goes_though_nobody_uses_the_new_one(
    issuer: Issuer, served: Issuing, clock: Clock
) -> None:
    await issuer.verify(token(served, clock))
    served.keys = [jwk("rsa-2", rsa_key())]
    clock.advance(s=FRESH_MS / 1000)
    with pytest.raises(IssuerKeyUnknown):
        await issuer.verify(token(served, clock))


async def test_a_flood_of_unknown_keys_asks_once_in_half_a_minute(
    issuer: Issuer, served: Issuing, clock: Clock
) -> None:
    await issuer.verify(token(served, clock))
    assert served.fetches == 1
    unknown = [token(served, clock, kid=f"made up {n}") for n in range(500)]
    for minute in range(1, 4):
        for _ in range(2):
            answers = await asyncio.gather(*map(issuer.verify, unknown), return_exceptions=True)
            assert {type(answer) for answer in answers} == {IssuerKeyUnknown}
            # Who signs in meanwhile is none the worse.
            assert (await issuer.verify(token(served, clock))).subject == "subject-1"
        assert served.fetches == minute
        clock.advance(s=COOL_DOWN_MS / 1000)


async def test_a_lone_key_that_is_not_named_is_renewed_too(issuer: Issuer, served: Issuing, clock: Clock) -> None:
    def unnamed(key: str) -> str:
        return signed(claims_of(served.url, now_s=clock.now_ms // 1000), kid=None, key=rsa_key(key))

    served.keys = [jwk("1", rsa_key("old"))]
    await issuer.verify(unnamed("old"))
    served.keys = [jwk("2", rsa_key("new"))]
    for _ in range(10):
        with pytest.raises(IssuerKeyUnknown):
            await issuer.verify(unnamed("new"))
    assert served.fetches == 1
    clock.advance(s=COOL_DOWN_MS / 1000)
    assert (await issuer.verify(unnamed("new"))).subject == "subject-1"
    assert served.fetches == 2


async def test_an_outage_of_an_hour_and_more_is_not_noticed(issuer: Issuer, served: Issuing, clock: Clock) -> None:
    await issuer.verify(token(served, clock))
    served.answers["/jwks"] = json({}, status=500)
    for _ in range(23):
        clock.advance(s=3600)
        assert (await issuer.verify(token(served, clock))).subject == "subject-1"
    assert served.fetches == 24
    clock.advance(s=STALE_MS / 1000 - 23 * 3600)
    with pytest.raises(IssuerUnavailable):
        await issuer.verify(token(served, clock))
    del served.answers["/jwks"]
    clock.advance(s=RETRY_MS / 1000)
    assert (await issuer.verify(token(served, clock))).subject == "subject-1"


async def test_an_issuer_that_never_answered_is_asked_again_soon(issuer: Issuer, served: Issuing, clock: Clock) -> None:
    path = "/.well-known/openid-configuration"
    served.answers[path] = json({}, status=503)
    for _ in range(10):
        with pytest.raises(IssuerUnavailable):
            await issuer.verify(token(served, clock))
        with pytest.raises(IssuerUnavailable):
            await issuer.endpoints()
    assert served.asked[path] == 1
    del served.answers[path]
    clock.advance(s=RETRY_MS / 1000)
    assert (await issuer.endpoints()).token_endpoint == f"{served.url}/token"
    await issuer.verify(token(served, clock))
    assert served.fetches == 1


async def test_who_has_a_key_does_not_wait_for_a_slow_issuer(issuer: Issuer, served: Issuing, clock: Clock) -> None:
    await issuer.verify(token(served, clock))
    clock.advance(s=FRESH_MS / 1000)
    served.held = asyncio.Event()
    waiting = asyncio.create_task(issuer.verify(token(served, clock)))
    while served.asked["/.well-known/openid-configuration"] == 1:
        await asyncio.sleep(0.01)
    assert (await issuer.verify(token(served, clock))).subject == "subject-1"
    assert not waiting.done()
    assert (await issuer.endpoints()).issuer == served.url
    served.held.set()
    assert (await waiting).subject == "subject-1"


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://another.test"},
        {"issuer": None},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "http://keys.test/jwks"},
        {"token_endpoint": "http://keys.test/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": 7},
    ],
)
async def test_metadata_that_cannot_be_is_none(
    issuer: Issuer, served: Issuing, clock: Clock, metadata: dict[str, Any]
) -> None:
    served.metadata = metadata
    with pytest.raises(IssuerUnavailable):
        await issuer.verify(token(served, clock))
    assert served.fetches == 0


@pytest.mark.parametrize(
    "answer",
    [
        json({"keys": []}),
        json({"keys": [{"kty": "oct", "kid": "rsa-1", "k": "AAAA"}]}),
        json([]),
        Response(b"\xff"),
        Response(b"x" * 10_000_000),
        RedirectResponse("/elsewhere"),
        json({}, status=204),
    ],
)
async def test_keys_that_cannot_be_replace_none(
    issuer: Issuer, served: Issuing, clock: Clock, answer: Response
) -> None:
    await issuer.verify(token(served, clock))
    served.answers["/jwks"] = answer
    clock.advance(s=FRESH_MS / 1000)
    assert (await issuer.verify(token(served, clock))).subject == "subject-1"
    assert served.fetches == 2
    assert "/elsewhere" not in served.asked


async def test_what_is_no_token_asks_nobody(issuer: Issuer, served: Issuing) -> None:
    with pytest.raises(IdTokenInvalid):
        await issuer.verify("a.b.c")
    assert served.asked == {}
