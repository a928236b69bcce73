from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.errors import InvalidBody
from fitness_api.identity.accounts import normalised_address
from fitness_api.mail.letter import Letter, message, recipient, sender_of

LETTER = Letter(to="ada@example.org", language="de", subject="Grüße", text="Schön.\n", html="<p>Schön.</p>")


def test_a_message_has_both_bodies_and_says_that_a_machine_wrote_it() -> None:
    written = message(LETTER, sender=sender_of("Fitness <no-reply@example.net>"), message_id="ab12", sent_at_ms=0)
    read = message_from_bytes(written.as_bytes(policy=policy.SMTP), policy=policy.default)
    assert (read["From"], read["To"], read["Subject"]) == ("Fitness <no-reply@example.net>", "ada@example.org", "Grüße")
    assert (read["Message-ID"], read["Date"]) == ("<ab12@example.net>", "Thu, 01 Jan 1970 00:00:00 +0000")
    assert (read["Auto-Submitted"], read["Content-Language"]) == ("auto-generated", "de")
    assert [part.get_content_type() for part in read.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    assert written.as_bytes(policy=policy.SMTP).isascii()


@pytest.mark.parametrize(
    ("typed", "addr_spec"),
    [
        ("Ada@Example.ORG", "Ada@example.org"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("a,b@example.org", '"a,b"@example.org'),
        ("a<b>c@example.org", '"a<b>c"@example.org'),
        ('a"b@example.org', '"a\\"b"@example.org'),
    ],
)
def test_an_address_is_one_mailbox(typed: str, addr_spec: str) -> None:
    assert recipient(typed).addr_spec == addr_spec


@pytest.mark.parametrize("typed", ["", "ada", "@example.org", "ada@", "ada@exa mple.org", "a\r\nBcc: x@example.org"])
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        recipient(typed)


@given(st.text(max_size=30), st.sampled_from(["example.org", "bücher.example"]))
def test_whatever_may_be_registered_makes_one_recipient_or_none(local: str, domain: str) -> None:
    typed = f"{local}@{domain}"
    try:
        normalised_address(typed)
    except InvalidBody:
        return
    letter = Letter(to=typed, language="en", subject="s", text="t\n", html="h")
    try:
        written = message(letter, sender=sender_of("a@b.example"), message_id="1", sent_at_ms=0)
    except ValueError:
        return
    read = message_from_bytes(written.as_bytes(policy=policy.SMTPUTF8), policy=policy.default)
    assert len(read["To"].addresses) == 1
    assert set(read.keys()) == set(written.keys())


@pytest.mark.parametrize("setting", ["Fitness <no-reply@example.net>", '"Fitness" <no-reply@example.net>'])
def test_a_sender_may_have_a_name(setting: str) -> None:
    assert str(sender_of(setting)) == "Fitness <no-reply@example.net>"


@pytest.mark.parametrize("setting", ["", "Fitness", "Fitness <no-reply>", "Fitness <a@example.net"])
def test_a_sender_has_an_address(setting: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        sender_of(setting)
