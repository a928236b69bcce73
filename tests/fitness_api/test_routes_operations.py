"""Alive, ready, described: against real servers, and against servers that are not there."""

import logging
from base64 import b64encode
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.app import build
from fitness_api.problems import CATALOGUE
from fitness_api.settings import Settings
from tests.fitness_api.serving import serving

# The discard protocol's port, on which nothing listens; the client gives up at once.
NO_MONGO = "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=50&directConnection=true"
NO_REDIS = "redis://127.0.0.1:9/0"


def settings(mongo_url: str, redis_url: str, *, database: str = "unused", master_key: bytes = bytes(32)) -> Settings:
    return Settings(
        mongo_url=mongo_url, redis_url=redis_url, mongo_database=database, master_key=b64encode(master_key).decode()
    )


async def test_a_gateway_lives_without_any_other_part() -> None:
    async with serving(build(settings(NO_MONGO, NO_REDIS))) as client:
        answer = await client.get("/healthz")
        assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


async def test_it_is_ready_when_every_part_answers(
    mongo_url: str, redis_url: str, database: AsyncDatabase[dict[str, Any]]
) -> None:
    async with serving(build(settings(mongo_url, redis_url, database=database.name))) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        body = answer.json()
        assert body["status"] == "ready"
        assert {name: one["ok"] for name, one in body["dependencies"].items()} == {
            "mongodb": True,
            "signing_keys": True,
            "redis": True,
        }
        packed = await client.get("/readyz", headers={"Accept": "application/msgpack"})
        assert msgspec.msgpack.decode(packed.content)["status"] == "ready"


async def test_with_another_master_key_than_the_signing_keys_it_is_not_ready(
    mongo_url: str, redis_url: str, database: AsyncDatabase[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    async with serving(build(settings(mongo_url, redis_url, database=database.name))) as client:
        assert (await client.get("/readyz")).status_code == 200
    other = settings(mongo_url, redis_url, database=database.name, master_key=b"x" * 32)
    async with serving(build(other)) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        dependencies = answer.json()["dependencies"]
        assert dependencies["signing_keys"]["error"] == "SigningKeysUnreadable"
        assert dependencies["mongodb"]["ok"] is True


async def test_without_redis_it_is_degraded_and_serves(mongo_url: str, database: AsyncDatabase[dict[str, Any]]) -> None:
    async with serving(build(settings(mongo_url, NO_REDIS, database=database.name))) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert answer.json()["dependencies"]["redis"]["error"] == "ConnectionError"


async def test_without_the_database_it_is_not_ready(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    async with serving(build(settings(NO_MONGO, redis_url))) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1
    body = answer.json()
    assert body["code"] == "unavailable"
    assert body["dependencies"]["redis"]["ok"] is True
    assert body["dependencies"]["mongodb"]["ok"] is False
    assert body["dependencies"]["mongodb"]["error"]
    # The class of the failure and never its text, which names hosts.
    assert "127.0.0.1" not in answer.text.replace("http://127.0.0.1:8080", "")


async def test_what_is_published() -> None:
    async with serving(build(settings(NO_MONGO, NO_REDIS))) as client:
        document = await client.get("/openapi.json")
        validate(document.json(), cls=OpenAPIV31SpecValidator)
        again = await client.get("/openapi.json", headers={"If-None-Match": document.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        page = await client.get("/docs", headers={"Accept": "text/html"})
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers.get_list("content-security-policy")[0].startswith("default-src 'none'; style-src 'sha256-")
        assert page.text.startswith("<!doctype html>")


async def test_every_problem_has_its_page() -> None:
    async with serving(build(settings(NO_MONGO, NO_REDIS))) as client:
        for problem in CATALOGUE.values():
            page = await client.get(f"/problems/{problem.slug}")
            assert page.status_code == 200
            assert problem.code in page.text
        assert (await client.get("/problems")).text.count("<article") == len(CATALOGUE)
        missing = await client.get("/problems/no-such-thing")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
