"""Problems: the table is total, the codes are stable, the page in docs says the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import json
from starlette.exceptions import HTTPException

from fitness_api import errors as api
from fitness_api import problems
from fitness_api.identity import errors as identity
from fitness_api.problems import BASES, CATALOGUE, PROBLEMS, problem_of
from sync import errors as sync

PAGE = Path(__file__).parents[2] / "docs" / "protocols" / "problems.md"


def leaves(base: type[Exception]) -> Iterator[type[Exception]]:
    subclasses = base.__subclasses__()
    if not subclasses:
        yield base
    for subclass in subclasses:
        yield from leaves(subclass)


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.__name__)
def test_every_error_of_every_package_has_its_problem(base: type[Exception]) -> None:
    missing = [leaf for leaf in leaves(base) if not any(kind in PROBLEMS for kind in leaf.__mro__)]
    assert not missing


def test_every_row_belongs_to_a_base_that_has_a_handler() -> None:
    assert all(issubclass(kind, BASES) for kind in PROBLEMS)
    assert set(problems.handlers("http://x")) == {*BASES, HTTPException, Exception}


def test_a_code_has_one_problem_and_a_problem_one_code() -> None:
    everything = {id(problem): problem for problem in PROBLEMS.values()}.values()
    assert len({problem.code for problem in everything}) == len(everything)
    assert len({(problem.status, problem.title) for problem in CATALOGUE.values()}) == len(CATALOGUE)


def test_the_page_holds_every_problem_in_order_and_no_other() -> None:
    sections = PAGE.read_text("utf-8").split("\n## ")[1:]
    by_status = sorted(CATALOGUE.values(), key=lambda problem: (problem.status, problem.code))
    assert [section.split("\n", 1)[0] for section in sections] == [problem.code for problem in by_status]
    for section, problem in zip(sections, by_status, strict=True):
        assert f"{problem.status} · {problem.title}\n" in section
        assert problem.meaning in section
        assert problem.remedy in section
        assert all(f"`{member}`" in section for member in (*problem.members, *problem.constants))


def shown(error: Exception) -> dict[str, object]:
    body = problems.response(problem_of(error), error, public_url="https://api.example/", request_id="r1").body
    decoded: dict[str, object] = json.decode(body)
    return decoded


def test_an_invalid_body_carries_its_pointers() -> None:
    assert shown(api.InvalidBody(api.Invalid("/a/0", "wrong"), api.Invalid("", "too"))) == {
        "type": "https://api.example/problems/invalid-body",
        "title": "The body is not what this operation takes",
        "status": 422,
        "code": "invalid_body",
        "detail": "/a/0: wrong; /: too",
        "errors": [{"pointer": "/a/0", "detail": "wrong"}, {"pointer": "", "detail": "too"}],
        "request_id": "r1",
    }


def test_only_listed_members_of_an_error_are_shown() -> None:
    assert shown(sync.BatchTooLarge(max_changes=1, max_bytes=2))["limits"] == {"max_changes": 1, "max_bytes": 2}
    assert shown(api.BodyTooLarge(limit_bytes=9))["limit_bytes"] == 9
    error = api.NotFound("ride")
    error.secret = "hunter2"  # type: ignore[attr-defined]
    assert "hunter2" not in str(shown(error))


def test_our_own_faults_say_nothing_of_themselves() -> None:
    for error in (ValueError("secret"), sync.StoreUnavailable("mongo-3.internal:27017 is down")):
        body = shown(error)
        assert body["detail"] == problem_of(error).meaning
        assert "secret" not in str(body)
        assert "internal:" not in str(body)


def test_an_error_whose_class_is_unknown_is_internal() -> None:
    assert problem_of(KeyError("x")).code == "internal_error"


def test_a_token_that_fails_is_challenged() -> None:
    def challenge(error: Exception) -> str:
        return problems.headers(problem_of(error), error)["WWW-Authenticate"]

    assert challenge(api.NotAuthenticated("No token came.", error=None)) == 'Bearer realm="fitness-api"'
    assert challenge(api.NotAuthenticated("Expired.")) == 'Bearer realm="fitness-api", error="invalid_token"'
    assert challenge(identity.AccessTokenInvalid("x")) == 'Bearer realm="fitness-api", error="invalid_token"'
    assert challenge(identity.InvalidCredentials()) == 'Bearer realm="fitness-api"'
    algs = 'algs="ES256 EdDSA"'
    assert challenge(identity.DpopProofInvalid("x")) == f'DPoP realm="fitness-api", error="invalid_dpop_proof", {algs}'
    needed = identity.DpopNonceNeeded("x", nonce="n1")
    assert challenge(needed) == f'DPoP realm="fitness-api", error="use_dpop_nonce", {algs}'
    assert problems.headers(problem_of(needed), needed)["DPoP-Nonce"] == "n1"
    wanted = 'Bearer realm="fitness-api", error="insufficient_scope", scope="sync"'
    assert challenge(api.InsufficientScope("sync")) == wanted


@pytest.mark.parametrize("code", [code for code, problem in CATALOGUE.items() if problem.status in {429, 503}])
def test_later_says_when(code: str) -> None:
    error = next((kind for kind, problem in PROBLEMS.items() if problem.code == code), None)
    assert error is not None
    assert int(problems.headers(CATALOGUE[code], RuntimeError())["Retry-After"]) >= 1


def test_an_error_knows_better_when() -> None:
    busy = identity.PasswordHashersBusy(retry_after_s=7)
    assert problems.headers(problem_of(busy), busy)["Retry-After"] == "7"


def test_routing_errors_are_problems() -> None:
    assert problem_of(HTTPException(404)).code == "not_found"
    wrong = HTTPException(405, headers={"Allow": "GET"})
    assert problems.headers(problem_of(wrong), wrong)["Allow"] == "GET"
    assert shown(HTTPException(414))["code"] == problem_of(HTTPException(414)).code
    assert shown(HTTPException(418))["status"] == 418


@pytest.mark.parametrize(
    "error",
    [HTTPException(404), HTTPException(405), HTTPException(418), api.NotFound("ride"), ValueError(), KeyError("x")],
)
def test_every_problem_has_every_member_that_clients_rely_on(error: Exception) -> None:
    body = shown(error)
    assert {"type", "title", "status", "detail", "code", "request_id"} <= set(body)
    assert body["detail"]
