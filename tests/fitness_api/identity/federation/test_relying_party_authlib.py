"""The port's bullets, over real HTTP."""

from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from starlette.responses import RedirectResponse, Response

from fitness_api.identity.errors import IdTokenInvalid, IssuerUnavailable
from fitness_api.identity.federation import providers
from fitness_api.identity.federation.fetcher_httpx2 import BoundedTransport
from fitness_api.identity.federation.providers import Provider
from fitness_api.identity.federation.relying_party import Endpoints
from fitness_api.identity.federation.relying_party_authlib import AuthlibRelyingParty
from fitness_api.settings import AppleKey, OidcProvider
from tests.fitness_api.identity.conftest import Clock
from tests.fitness_api.identity.federation.issuing import Issuing, ec_key, issuing, json
from tests.fitness_api.identity.federation.test_providers import pem

REDIRECT = "https://api.test/callback"
VERIFIER = "v" * 64
S256 = "x" * 43


@pytest.fixture
async def served() -> AsyncIterator[Issuing]:
    async with issuing() as issuer:
        yield issuer


@pytest.fixture
async def party(clock: Clock) -> AsyncIterator[AuthlibRelyingParty]:
    transport = BoundedTransport()
    yield AuthlibRelyingParty(transport, now_ms=clock)
    await transport.close()


def provider_of(served: Issuing, **more: Any) -> Provider:
    return providers.of(OidcProvider(name="test", issuer=served.url, client_id="us", **more))


def endpoints_of(served: Issuing, *methods: str) -> Endpoints:
    return Endpoints(
        issuer=served.url,
        authorization_endpoint=f"{served.url}/authorize?tenant=1",
        token_endpoint=f"{served.url}/token",
        jwks_uri=f"{served.url}/jwks",
        token_endpoint_auth_methods_supported=methods or ("client_secret_basic",),
    )


async def ask(party: AuthlibRelyingParty, provider: Provider, endpoints: Endpoints) -> str:
    return await party.id_token(provider, endpoints, code="the code", redirect_uri=REDIRECT, verifier=VERIFIER)


async def test_the_address_asks_for_a_code_with_pkce(party: AuthlibRelyingParty, served: Issuing) -> None:
    url = await party.authorization_url(
        provider_of(served),
        endpoints_of(served),
        redirect_uri=REDIRECT,
        state="the state",
        nonce="the nonce",
        verifier=VERIFIER,
    )
    assert url.startswith(f"{served.url}/authorize?")
    asked = parse_qs(urlsplit(url).query)
    challenge = asked.pop("code_challenge")
    assert len(challenge[0]) == len(S256)
    assert VERIFIER not in url
    assert asked == {
        "tenant": ["1"],
        "response_type": ["code"],
        "client_id": ["us"],
        "redirect_uri": [REDIRECT],
        "scope": ["openid email profile"],
        "state": ["the state"],
        "nonce": ["the nonce"],
        "code_challenge_method": ["S256"],
    }
    assert served.asked == {}


async def test_apple_is_asked_to_answer_by_a_form(party: AuthlibRelyingParty, served: Issuing) -> None:
    apple = providers.of(OidcProvider(name="apple", issuer=providers.APPLE, client_id="us"))
    url = await party.authorization_url(
        apple, endpoints_of(served), redirect_uri=REDIRECT, state="s", nonce="n", verifier=VERIFIER
    )
    asked = parse_qs(urlsplit(url).query)
    assert (asked["response_mode"], asked["scope"]) == (["form_post"], ["openid email name"])


@pytest.mark.parametrize(
    ("secret", "methods", "in_header"),
    [
        ("s:cret", (), True),
        ("s:cret", ("client_secret_post", "client_secret_basic"), True),
        ("s:cret", ("client_secret_post",), False),
        ("s:cret", ("private_key_jwt",), True),
        (None, ("client_secret_basic",), False),
    ],
)
async def test_it_proves_itself_as_the_issuer_likes(
    party: AuthlibRelyingParty, served: Issuing, secret: str | None, methods: tuple[str, ...], in_header: bool
) -> None:
    served.answers["/token"] = json({"access_token": "a", "token_type": "Bearer", "id_token": "x.y.z"})
    provider = provider_of(served, client_secret=secret)
    assert await ask(party, provider, endpoints_of(served, *methods)) == "x.y.z"
    ((form, authorization),) = served.forms
    expected = {
        "grant_type": "authorization_code",
        "code": "the code",
        "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER,
    }
    if in_header:
        assert b64decode(authorization.removeprefix("Basic ")).startswith(b"us:s")
        assert form == expected
    else:
        assert authorization == ""
        assert form == {**expected, "client_id": "us", **({} if secret is None else {"client_secret": secret})}


async def test_apples_secret_is_a_token_that_lives_minutes(party: AuthlibRelyingParty, served: Issuing) -> None:
    served.answers["/token"] = json({"access_token": "a", "token_type": "Bearer", "id_token": "x.y.z"})
    key = AppleKey(team_id="TEAM", key_id="KEY", private_key=pem(ec_key("apple")))
    await ask(party, provider_of(served, apple_key=key), endpoints_of(served, "client_secret_post"))
    made = served.forms[0][0]["client_secret"]
    options: Any = {"verify_aud": False, "verify_iat": False}
    assert jwt.decode(made, ec_key("apple").public_key(), algorithms=["ES256"], options=options)["iss"] == "TEAM"


async def test_a_code_that_is_none_is_the_callers_fault(party: AuthlibRelyingParty, served: Issuing) -> None:
    served.answers["/token"] = json({"error": "invalid_grant", "error_description": "no"}, status=400)
    with pytest.raises(IdTokenInvalid):
        await ask(party, provider_of(served), endpoints_of(served))


@pytest.mark.parametrize(
    "answer",
    [
        json({"error": "invalid_client"}, status=401),
        json({"access_token": "a", "token_type": "Bearer"}),
        json({"access_token": "a", "token_type": "Bearer", "id_token": 7}),
        json([]),
        json("id_token"),
        json(None),
        Response(b"<html>", status_code=200),
        Response(b"\xff\xfe", status_code=200),
        Response(b"", status_code=500),
        Response(b"x" * 10_000_000),
        RedirectResponse("/elsewhere"),
    ],
)
async def test_what_makes_no_sense_is_the_issuers_fault(
    party: AuthlibRelyingParty, served: Issuing, answer: Response
) -> None:
    served.answers["/token"] = answer
    with pytest.raises(IssuerUnavailable):
        await ask(party, provider_of(served, client_secret="s"), endpoints_of(served))
    assert "/elsewhere" not in served.asked


async def test_nobody_there_is_the_issuers_fault(party: AuthlibRelyingParty, served: Issuing) -> None:
    endpoints = endpoints_of(served)
    nowhere = Endpoints(
        issuer=served.url,
        authorization_endpoint=endpoints.authorization_endpoint,
        token_endpoint="http://127.0.0.1:1/token",
        jwks_uri=endpoints.jwks_uri,
    )
    with pytest.raises(IssuerUnavailable):
        await ask(party, provider_of(served), nowhere)
