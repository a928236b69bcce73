import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.errors import InvalidBody
from fitness_api.identity.authorization import clients
from fitness_api.identity.authorization.clients import Client, may_be_sent_to, wrong_redirect_uri


def with_redirects(*uris: str) -> Client:
    return clients.first_party(uris)


@pytest.mark.parametrize(
    "uri",
    [
        "https://coach.example/done",
        "https://coach.example",
        "https://coach.example:8443/done?x=1",
        "com.example.app:/done",
        "com.example.app://done",
        "net.example-app.ios1:/",
        "http://127.0.0.1/done",
        "http://127.0.0.1:8000/done",
        "http://[::1]:9/",
    ],
)
def test_these_may_be_registered(uri: str) -> None:
    assert wrong_redirect_uri(uri) is None
    assert may_be_sent_to(with_redirects(uri), uri)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "coach.example/done",
        "//coach.example/done",
        "http://coach.example/done",
        "http://localhost/done",
        "http://localhost:8000/",
        "http://127.0.0.2/",
        "http://127.0.0.1.evil.example/",
        "http://127.1/",
        "http://[::2]/",
        "http://user@127.0.0.1/",
        "https://coach.example/done#x",
        "https://coach.example/#",
        "https://user:secret@coach.example/",
        "https://coach.example\\@evil.example/",
        "https://coach.example/a b",
        "https://coach.example/\n",
        "https://cöach.example/",
        "https:///done",
        "https://coach.example;script-src/",
        "https://coach.example,x/",
        "https://co'ach.example/",
        "HTTPS://coach.example/",
        "Com.Example.App:/done",
        "app:/done",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://coach.example:port/",
        "https://coach.example/" + "x" * 512,
        "\x00com.example.app:/",
    ],
)
def test_these_may_not(uri: str) -> None:
    assert wrong_redirect_uri(uri) is not None
    assert not may_be_sent_to(with_redirects("https://coach.example/done"), uri)
    with pytest.raises(ValueError, match=r"\w"):
        with_redirects(uri)


@pytest.mark.parametrize(
    ("registered", "near"),
    [
        ("https://coach.example/done", "https://coach.example/done/"),
        ("https://coach.example/done", "https://coach.example/done?"),
        ("https://coach.example/done", "https://coach.example/Done"),
        ("https://coach.example/done", "https://coach.example:443/done"),
        ("https://coach.example/done", "https://coach.example/./done"),
        ("https://coach.example/done", "https://coach.example/%64one"),
        ("https://coach.example/done", "https://coach.example.evil.example/done"),
        ("https://coach.example/done", "https://evil.example/done"),
        ("https://coach.example/done?x=1", "https://coach.example/done?x=2"),
        ("http://127.0.0.1/done", "http://127.0.0.1/other"),
        ("http://127.0.0.1/done", "http://[::1]/done"),
        ("http://127.0.0.1/done", "http://127.0.0.1:80/done/"),
        ("http://127.0.0.1/done", "https://127.0.0.1/done"),
        ("http://127.0.0.1/done", "http://127.0.0.1:80@evil.example/done"),
        ("com.example.app:/done", "com.example.app2:/done"),
    ],
)
def test_a_near_miss_is_none(registered: str, near: str) -> None:
    assert not may_be_sent_to(with_redirects(registered), near)


@given(st.integers(1, 65_535), st.sampled_from(["127.0.0.1", "[::1]"]), st.sampled_from(["", ":7", ":65535"]))
def test_a_loopback_address_may_have_any_port_and_no_other_may(port: int, host: str, registered: str) -> None:
    assert may_be_sent_to(with_redirects(f"http://{host}{registered}/done"), f"http://{host}:{port}/done")
    assert not may_be_sent_to(with_redirects("https://coach.example/done"), f"https://coach.example:{port}/done")


@given(
    st.text(max_size=200), st.sampled_from(["https://coach.example/done", "http://127.0.0.1/", "com.example.app:/x"])
)
def test_whatever_is_presented_it_was_registered_or_is_a_loopback(presented: str, registered: str) -> None:
    if may_be_sent_to(with_redirects(registered), presented):
        assert presented == registered or presented.startswith("http://127.0.0.1:")


GOOD = {
    "name": "Coach",
    "redirect_uris": ["https://coach.example/done"],
    "grant_types": ["authorization_code", "refresh_token"],
    "scopes": ["workouts:read"],
    "secret_digest": None,
}


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": " "}, "/name"),
        ({"name": "x" * 61}, "/name"),
        ({"name": "Coach\u202egnihsihp"}, "/name"),
        ({"name": "Coach\x00"}, "/name"),
        ({"redirect_uris": []}, "/redirect_uris"),
        ({"redirect_uris": ["https://coach.example/", "http://evil.example/"]}, "/redirect_uris/1"),
        ({"redirect_uris": ["https://coach.example/"] * 21}, "/redirect_uris"),
        ({"grant_types": []}, "/grant_types"),
        ({"grant_types": ["refresh_token"]}, "/grant_types"),
        ({"grant_types": ["client_credentials"], "scopes": ["analytics:read"]}, "/grant_types"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["workouts:read", "admin"]}, "/scopes/1"),
        ({"scopes": ["everything"]}, "/scopes/0"),
        (
            {"grant_types": ["client_credentials"], "secret_digest": b"x" * 32, "scopes": ["analytics:read", "sync"]},
            "/scopes/1",
        ),
    ],
)
def test_a_bad_registration_is_named(changes: dict[str, object], pointer: str) -> None:
    with pytest.raises(InvalidBody) as refused:
        clients.registered(client_id="c", now_ms=0, **{**GOOD, **changes})  # type: ignore[arg-type]
    assert refused.value.errors[0].pointer == pointer


def test_a_good_one_is_tidied() -> None:
    made = clients.registered(
        client_id="c",
        now_ms=5,
        **{**GOOD, "name": "  Coach \n Pro ", "scopes": ["sync", "sync"]},  # type: ignore[arg-type]
    )
    assert (made.name, made.scopes, made.confidential) == ("Coach Pro", ("sync",), False)
    assert "Coach" in repr(made)


def test_a_digest_is_not_shown() -> None:
    made = clients.registered(client_id="c", now_ms=0, **{**GOOD, "secret_digest": b"sensitive"})  # type: ignore[arg-type]
    assert made.confidential
    assert "sensitive" not in repr(made)
