"""Second factors and passkeys over HTTP: the shapes of bodies, and the way through them."""

import time
from base64 import b32decode
from typing import Any

import httpx
import pytest

from fitness_api.identity.factors import totp
from fitness_api.limits import known_devices
from tests.fitness_api.client import CREDENTIALS, Json, bearer, registered
from tests.fitness_api.identity.factors.authenticator import Authenticator

ORIGIN = "http://api.test"


def code_of(begun: Json, *, steps: int = 0) -> str:
    """A step ahead, it holds after one that was used just now, also if the step ends meanwhile."""
    secret = b32decode(begun["secret"])
    return totp.code(secret, totp.step_of(time.time_ns() // 1_000_000) + steps)


async def with_app(api: httpx.AsyncClient, pair: Json) -> tuple[Json, list[str]]:
    begun = (await api.post("/v1/auth/totp", headers=bearer(pair))).json()
    confirmed = await api.post("/v1/auth/totp/confirm", json={"code": code_of(begun)}, headers=bearer(pair))
    assert confirmed.status_code == 200, confirmed.text
    return begun, confirmed.json()["recovery_codes"]


async def with_passkey(api: httpx.AsyncClient, pair: Json, **more: Any) -> tuple[Authenticator, Json]:
    options = (await api.post("/v1/auth/passkeys/options", headers=bearer(pair))).json()
    phone = Authenticator(origin=ORIGIN)
    body = {"credential": phone.create(options), **more}
    added = await api.post("/v1/auth/passkeys", json=body, headers=bearer(pair))
    assert added.status_code == 201, added.text
    return phone, added.json()


async def mfa_required(api: httpx.AsyncClient) -> Json:
    answer = await api.post("/v1/auth/login", json=CREDENTIALS)
    problem: Json = answer.json()
    assert (answer.status_code, problem["code"]) == (401, "mfa_required")
    return problem


async def test_an_authenticator_app_from_beginning_to_end(api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    assert (await api.get("/v1/auth/totp", headers=bearer(pair))).json() == {"active": False, "since": None}
    begun, codes = await with_app(api, pair)
    assert begun["uri"].startswith("otpauth://totp/Fitness:ada@example.org?secret=" + begun["secret"])
    assert (await api.get("/v1/auth/totp", headers=bearer(pair))).json()["active"]
    left = (await api.get("/v1/auth/recovery-codes", headers=bearer(pair))).json()
    assert (left["left"], len(codes)) == (10, 10)

    required = await mfa_required(api)
    assert required["ways"] == ["totp", "recovery_code"]
    body = {"mfa_token": required["mfa_token"], "totp": code_of(begun, steps=1)}
    answer = await api.post("/v1/auth/mfa", json=body)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    strong = answer.json()
    assert strong.keys() == pair.keys()
    again = await api.post("/v1/auth/mfa", json=body)
    assert (again.status_code, again.json()["code"]) == (400, "invalid_grant")

    assert (await api.delete("/v1/auth/totp", headers=bearer(strong))).status_code == 204
    assert (await api.delete("/v1/auth/totp", headers=bearer(strong))).json()["code"] == "not_found"
    assert (await api.get("/v1/auth/recovery-codes", headers=bearer(pair))).json() == {"left": 0, "made_at": None}
    assert (await api.post("/v1/auth/login", json=CREDENTIALS)).status_code == 200


async def test_recovery_codes_are_shown_once_and_work_once(api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    refused = await api.post("/v1/auth/recovery-codes", headers=bearer(pair))
    assert (refused.status_code, refused.json()["code"]) == (409, "no_second_factor")
    begun, codes = await with_app(api, pair)
    for expected in (200, 401):
        body = {"mfa_token": (await mfa_required(api))["mfa_token"], "recovery_code": codes[0]}
        answer = await api.post("/v1/auth/mfa", json=body)
        assert answer.status_code == expected
    assert answer.json()["code"] == "second_factor_refused"
    assert "www-authenticate" in answer.headers
    body = {"mfa_token": (await mfa_required(api))["mfa_token"], "totp": code_of(begun, steps=1)}
    strong = (await api.post("/v1/auth/mfa", json=body)).json()
    renewed = (await api.post("/v1/auth/recovery-codes", headers=bearer(strong))).json()["recovery_codes"]
    assert not {*renewed} & {*codes}
    assert (await api.get("/v1/auth/recovery-codes", headers=bearer(strong))).json()["left"] == 10


async def test_a_passkey_from_beginning_to_end(api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    phone, added = await with_passkey(api, pair, name=" Phone ")
    assert added["passkey"]["name"] == "Phone"
    assert len(added["recovery_codes"]) == 10

    options = (await api.post("/v1/auth/passkeys/login/options")).json()
    answer = await api.post("/v1/auth/passkeys/login", json={"credential": phone.get(options)})
    assert answer.status_code == 200
    strong = answer.json()
    used = await api.post("/v1/auth/passkeys/login", json={"credential": phone.get(options)})
    assert (used.status_code, used.json()["code"]) == (401, "passkey_refused")

    required = await mfa_required(api)
    assert required["ways"] == ["passkey", "recovery_code"]
    token = {"mfa_token": required["mfa_token"]}
    options = (await api.post("/v1/auth/mfa/options", json=token)).json()
    assert [one["id"] for one in options["allowCredentials"]] == [added["passkey"]["credential_id"]]
    answer = await api.post("/v1/auth/mfa", json={**token, "passkey": phone.get(options)})
    assert answer.status_code == 200

    (listed,) = (await api.get("/v1/auth/passkeys", headers=bearer(strong))).json()["passkeys"]
    assert listed["last_used_at"] is not None
    path = f"/v1/auth/passkeys/{listed['id']}"
    renamed = await api.patch(path, json={"name": "Pixel"}, headers=bearer(strong))
    assert (renamed.status_code, renamed.json()["name"]) == (200, "Pixel")
    assert (await api.delete(path, headers=bearer(strong))).status_code == 204
    for answer in (
        await api.delete(path, headers=bearer(strong)),
        await api.patch(path, json={"name": "Pixel"}, headers=bearer(strong)),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_second_passkey_needs_a_login_with_the_first(api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    phone, _ = await with_passkey(api, pair)
    refused = await api.post("/v1/auth/passkeys/options", headers=bearer(pair))
    assert (refused.status_code, refused.json()["code"]) == (401, "reauthentication_required")
    assert "second factor" in refused.json()["detail"]
    for path in ("/v1/auth/totp", "/v1/auth/recovery-codes", "/v1/auth/passkeys"):
        assert (await api.post(path, headers=bearer(pair))).json()["code"] == "reauthentication_required"
    assert (await api.delete("/v1/me", headers=bearer(pair))).json()["code"] == "reauthentication_required"
    options = (await api.post("/v1/auth/passkeys/login/options")).json()
    strong = (await api.post("/v1/auth/passkeys/login", json={"credential": phone.get(options)})).json()
    options = (await api.post("/v1/auth/passkeys/options", headers=bearer(strong))).json()
    assert [one["transports"] for one in options["excludeCredentials"]] == [["internal", "hybrid"]]
    laptop = Authenticator(origin=ORIGIN)
    body = {"credential": laptop.create(options), "name": "Laptop"}
    added = await api.post("/v1/auth/passkeys", json=body, headers=bearer(strong))
    assert (added.status_code, added.json()["recovery_codes"]) == (201, None)


async def test_it_speaks_msgpack_too(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/auth/passkeys/login/options", headers={"Accept": "application/msgpack"})
    assert answer.headers["content-type"] == "application/msgpack"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"totp": "123456", "recovery_code": "x"},
        {"totp": 123456},
        {"totp": ""},
        {"totp": "1" * 65},
        {"recovery_code": None},
        {"passkey": {}},
        {"passkey": {"id": "a", "rawId": "a", "type": "public-key", "response": {}}},
        {"mfa_token": "", "totp": "123456"},
    ],
)
async def test_a_body_that_shows_nothing_or_too_much_is_invalid(api: httpx.AsyncClient, body: Json) -> None:
    answer = await api.post("/v1/auth/mfa", json={"mfa_token": "x", **body})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_body")


async def test_what_is_no_passkey_is_told_so(api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    options = (await api.post("/v1/auth/passkeys/options", headers=bearer(pair))).json()
    body = {"credential": Authenticator(origin="https://evil.example").create(options)}
    answer = await api.post("/v1/auth/passkeys", json=body, headers=bearer(pair))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/credential")
    answer = await api.post(
        "/v1/auth/passkeys/login", json={"credential": Authenticator().get({"challenge": "eA", "rpId": "x"})}
    )
    assert (answer.status_code, answer.json()["code"]) == (401, "passkey_refused")
    answer = await api.post("/v1/auth/totp/confirm", json={"code": "000000"}, headers=bearer(pair))
    assert (answer.status_code, answer.json()["code"]) == (409, "totp_not_begun")
    await api.post("/v1/auth/totp", headers=bearer(pair))
    answer = await api.post("/v1/auth/totp/confirm", json={"code": "nothing"}, headers=bearer(pair))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/code")


async def test_guessing_is_slowed_down(api: httpx.AsyncClient) -> None:
    await with_app(api, await registered(api))
    token = (await mfa_required(api))["mfa_token"]
    codes = [(await api.post("/v1/auth/mfa", json={"mfa_token": token, "totp": "x"})).json()["code"] for _ in range(6)]
    assert codes == ["second_factor_refused"] * 5 + ["invalid_grant"]
    token = (await mfa_required(api))["mfa_token"]
    answer = await api.post("/v1/auth/mfa", json={"mfa_token": token, "totp": "x"})
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
    assert 1 <= int(answer.headers["retry-after"]) <= 31


async def test_a_device_that_completed_a_login_is_known_again(api: httpx.AsyncClient) -> None:
    pair = await registered(api)
    phone, _ = await with_passkey(api, pair)
    api.cookies.clear()
    options = (await api.post("/v1/auth/passkeys/login/options")).json()
    answer = await api.post("/v1/auth/passkeys/login", json={"credential": phone.get(options)})
    assert known_devices.name(https=False) in answer.cookies
