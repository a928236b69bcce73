import pytest

from fitness_api.hint_messages import Changed, Malformed, Refused, Token, TokenAccepted, decode, encode
from fitness_api.identity.access_tokens import MAX_TOKEN_BYTES


def test_bytes_on_the_wire() -> None:
    assert encode(Changed()) == '{"type":"changed"}'
    assert encode(TokenAccepted(600)) == '{"type":"token_accepted","expires_in":600}'
    assert encode(Refused("unavailable", "x")) == '{"type":"error","code":"unavailable","detail":"x"}'


def test_a_token_is_read_and_a_newer_client_s_members_and_messages_are_passed_over() -> None:
    assert decode('{"type":"token","access_token":"a.b.c"}') == Token("a.b.c")
    assert decode('{"access_token":"a.b.c","more":[1],"type":"token"}') == Token("a.b.c")
    assert decode('{"type":"newer","access_token":1}') is None


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", '"token"', '{"type":null}', '{"type":"token"}', '{"type":"token","access_token":1}', "{" * 10_000,
     '{"type":"token","access_token":"' + "a" * (MAX_TOKEN_BYTES + 1) + '"}', '{"type":"changed"', '{"type":"\\ud800"}x'],
)  # fmt: skip
def test_anything_else_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        decode(text)
