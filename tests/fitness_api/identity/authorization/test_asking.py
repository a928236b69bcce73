from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.identity.authorization import asking, clients
from fitness_api.identity.authorization.asking import Asked, Refused, Untrusted
from fitness_api.identity.authorization.clients import Client

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # RFC 7636 appendix B
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
REDIRECT = "https://coach.example/done?x=1"
ISSUER = "https://api.example"

CLIENT = Client(
    client_id="c",
    name="Coach",
    redirect_uris=(REDIRECT,),
    grant_types=(clients.AUTHORIZATION_CODE,),
    scopes=("workouts:read", "sync", "analytics:read"),
)
GOOD = {
    "client_id": "c",
    "redirect_uri": REDIRECT,
    "response_type": "code",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
    "state": "a b",
}


def read(**changes: str | None) -> Asked | Untrusted | Refused:
    parameters = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    return asking.read(parameters, CLIENT)


def test_what_is_asked_for_is_read() -> None:
    asked = read(scope="sync")
    assert asked == Asked(client=CLIENT, redirect_uri=REDIRECT, scopes=("sync",), code_challenge=CHALLENGE, state="a b")


def test_without_a_scope_it_is_all_that_users_can_give_the_client() -> None:
    asked = read()
    assert isinstance(asked, Asked)
    assert asked.scopes == ("workouts:read", "sync")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": CHALLENGE + "="}, "invalid_request"),
        ({"code_challenge": "x"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": "s256"}, "invalid_request"),
        ({"scope": "workouts:write"}, "invalid_scope"),
        ({"scope": "sync nothing"}, "invalid_scope"),
        ({"scope": "analytics:read"}, "invalid_scope"),
        ({"scope": "sync analytics:read"}, "invalid_scope"),
        ({"request": "x"}, "request_not_supported"),
        ({"request_uri": "x"}, "request_uri_not_supported"),
    ],
)
def test_what_cannot_be_given_is_told_to_the_client(changes: dict[str, str | None], error: str) -> None:
    refused = read(**changes)
    assert isinstance(refused, Refused)
    assert (refused.error, refused.redirect_uri, refused.state) == (error, REDIRECT, "a b")


@pytest.mark.parametrize("changes", [{"redirect_uri": None}, {"redirect_uri": REDIRECT + "2"}, {"scope": "x" * 5000}])
def test_nothing_is_sent_to_where_nobody_vouches_for(changes: dict[str, str | None]) -> None:
    assert isinstance(read(**changes), Untrusted)


def test_an_unknown_client_is_told_nothing() -> None:
    assert isinstance(asking.read(GOOD, None), Untrusted)


def test_a_parameter_that_comes_twice_is_refused() -> None:
    parameters, twice = asking.unique([*GOOD.items(), ("scope", "sync"), ("scope", "sync")])
    assert isinstance(asking.read(parameters, CLIENT, twice=twice), Refused)
    for name in ("client_id", "redirect_uri"):
        parameters, twice = asking.unique([*GOOD.items(), (name, GOOD[name])])
        assert isinstance(asking.read(parameters, CLIENT, twice=twice), Untrusted)
    parameters, twice = asking.unique([*GOOD.items(), ("state", "x")])
    refused = asking.read(parameters, CLIENT, twice=twice)
    assert isinstance(refused, Refused)
    assert refused.state is None


def test_a_client_without_the_grant_is_refused() -> None:
    machine = Client(
        client_id="c", name="M", redirect_uris=(REDIRECT,), grant_types=(clients.DEVICE_CODE,), scopes=("sync",)
    )
    refused = asking.read(GOOD, machine)
    assert isinstance(refused, Refused)
    assert refused.error == "unauthorized_client"


def test_the_answer_carries_code_state_and_issuer_beside_what_was_there() -> None:
    asked = read()
    assert isinstance(asked, Asked)
    uri = asking.with_code(asked, "k&/=", issuer=ISSUER)
    assert parse_qsl(urlsplit(uri).query) == [("x", "1"), ("code", "k&/="), ("state", "a b"), ("iss", ISSUER)]


def test_an_error_carries_the_issuer_too() -> None:
    asked = read(state=None)
    assert isinstance(asked, Asked)
    uri = asking.with_error(asking.denied(asked, 'a "quoted" \\ é'), issuer=ISSUER)
    assert dict(parse_qsl(urlsplit(uri).query)) == {
        "x": "1",
        "error": "access_denied",
        "error_description": "a quoted  ",
        "iss": ISSUER,
    }


@pytest.mark.parametrize(
    ("uri", "answer"),
    [
        ("https://a.example", "https://a.example?code=k&iss="),
        ("https://a.example/?", "https://a.example/?code=k&iss="),
        ("https://a.example/?a&", "https://a.example/?a&code=k&iss="),
        ("com.example.app:/x", "com.example.app:/x?code=k&iss="),
    ],
)
def test_the_query_is_joined_whole(uri: str, answer: str) -> None:
    asked = Asked(client=CLIENT, redirect_uri=uri, scopes=("sync",), code_challenge=CHALLENGE, state=None)
    assert asking.with_code(asked, "k", issuer="") == answer


def test_a_verifier_matches_its_challenge_alone() -> None:
    assert asking.verifier_matches(VERIFIER, CHALLENGE)
    assert not asking.verifier_matches(VERIFIER[:-1] + "K", CHALLENGE)
    assert not asking.verifier_matches(CHALLENGE, CHALLENGE)  # plain


@given(st.text(max_size=200))
def test_no_other_text_matches(verifier: str) -> None:
    assert not asking.verifier_matches(verifier, CHALLENGE)


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("https://coach.example:8443/done?x=1", "https://coach.example:8443"),
        ("https://coach.example?x", "https://coach.example"),
        ("http://127.0.0.1:9/x", "http://127.0.0.1:9"),
        ("http://[::1]:9/x", "http:"),
        ("com.example.app:/x", "com.example.app:"),
    ],
)
def test_a_form_may_lead_to_the_client(uri: str, source: str) -> None:
    assert asking.form_target(uri) == source
