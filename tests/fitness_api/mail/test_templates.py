import string
from typing import get_args

import pytest

from fitness_api.mail.templates import WIDTH, Seen, language_of, letter, within
from fitness_api.mail.wording import FRAMES, LETTERS, Language, LetterKind, Words
from tests.fitness_api.smtp import Links

LANGUAGES: tuple[Language, ...] = get_args(Language)
KINDS: tuple[LetterKind, ...] = get_args(LetterKind)
DETAILS = {"within": "1 hour", "old_address": "old@example.org", "new_address": "<b>new</b>@example.org"}
LINK = "https://api.example.org/account/reset?token=abc&x=1"
SEEN = Seen(
    at_ms=1_763_748_000_000, timezone="Europe/Berlin", user_agent="Mozilla/5.0 (iPhone) Safari/605", address="192.0.2.7"
)


def places(words: Words) -> set[str]:
    texts = (words.subject, *words.before, *words.after)
    return {name for text in texts for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_kind_is_written_in_every_language_with_the_same_places() -> None:
    assert set(LETTERS) == set(FRAMES) == set(LANGUAGES)
    for words in LETTERS.values():
        assert set(words) == set(KINDS)
    for kind in KINDS:
        assert len({frozenset(places(LETTERS[language][kind])) for language in LANGUAGES}) == 1, kind
        assert places(LETTERS["en"][kind]) <= set(DETAILS), kind
        assert len({LETTERS[language][kind].action is None for language in LANGUAGES}) == 1, kind


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_letter_is_readable_as_text_and_asks_nothing_of_a_server(kind: LetterKind, language: Language) -> None:
    seen = SEEN if LETTERS[language][kind].action is None else None
    written = letter(
        kind, to="ada@example.org", language=language, service="api.example.org", link=LINK, details=DETAILS, seen=seen
    )
    parser = Links()
    parser.feed(written.html)
    assert parser.found == [LINK]
    assert parser.tags <= {"html", "head", "meta", "title", "body", "div", "h1", "p", "br", "a", "span"}
    lines = written.text.splitlines()
    assert lines.count(LINK) == 1
    assert all(len(line) <= WIDTH for line in lines if line != LINK)
    assert "{" not in written.subject + written.text + written.html
    assert "\n" not in written.subject


def test_a_notice_says_when_and_where_in_words_of_ours() -> None:
    hostile = Seen(at_ms=0, user_agent="You won! Visit http://evil.example Android", address="2001:db8::1")
    for seen, when, where in (
        (SEEN, "2025-11-21 19:00 (Europe/Berlin)", "Safari, iPhone (192.0.2.7)"),
        (hostile, "1970-01-01 00:00 (UTC)", "Android (2001:db8::1)"),
    ):
        text = letter("new_login", to="a@b.example", language="en", service="s", link=LINK, seen=seen).text
        assert f"When: {when}\nFrom: {where}\n" in text
        assert "evil" not in text


def test_a_letter_escapes_what_it_was_given() -> None:
    html = letter("change_email_here", to="a@b.example", language="en", service="<s>", link=LINK, details=DETAILS).html
    assert "&lt;b&gt;new&lt;/b&gt;@example.org" in html
    assert "&lt;s&gt;" in html
    assert "token=abc&amp;x=1" in html


@pytest.mark.parametrize(
    ("locale", "language"), [(None, "en"), ("de", "de"), ("de-AT", "de"), ("DE-de", "de"), ("den", "en"), ("fr", "en")]
)
def test_the_locale_decides_the_language(locale: str | None, language: Language) -> None:
    assert language_of(locale) == language


@pytest.mark.parametrize(
    ("span_s", "words"), [(1800, "30 minutes"), (3600, "60 minutes"), (86400, "24 hours"), (7 * 86400, "7 days")]
)
def test_a_span_is_said_in_words(span_s: int, words: str) -> None:
    assert within(span_s, "en") == words
