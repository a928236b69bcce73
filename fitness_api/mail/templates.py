"""From wording to a letter: text, and HTML that asks nothing of any server."""

import textwrap
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from fitness_api.mail.letter import Letter
from fitness_api.mail.wording import FRAMES, LETTERS, SPANS, Frame, Language, LetterKind, Words

WIDTH: Final = 72  # RFC 5322 section 2.1.1 asks for 78 at most; a reply's marks need room

# In words of ours, because a user agent is the caller's to choose. The first of each that fits.
_APPS: Final = (
    ("edg/", "Edge"),
    ("opr/", "Opera"),
    ("firefox/", "Firefox"),
    ("chrome/", "Chrome"),
    ("safari/", "Safari"),
    ("okhttp/", "app"),
    ("cfnetwork/", "app"),
    ("dart/", "app"),
    ("curl/", "curl"),
)
_SYSTEMS: Final = (
    ("watch", "watch"),
    ("iphone", "iPhone"),
    ("ipad", "iPad"),
    ("android", "Android"),
    ("windows", "Windows"),
    ("mac os x", "Mac"),
    ("darwin", "Apple"),
    ("linux", "Linux"),
)

_HTML: Final = (
    '<!doctype html><html lang="{language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>{subject}</title></head>"
    '<body style="margin:0;padding:24px;background:#fbfaf8;color:#1d1b20;font:16px/1.5 system-ui,sans-serif">'
    '<div style="max-width:34em;margin:0 auto"><h1 style="font-size:22px;line-height:1.25">{subject}</h1>{body}'
    '<p style="margin-top:32px;color:#635f69;font-size:13px">{footer}</p></div></body></html>'
)
_BUTTON: Final = (
    '<p><a href="{link}" style="display:inline-block;padding:10px 18px;border-radius:6px;background:#b4232f;color:#ffffff;'
    'text-decoration:none">{action}</a></p><p style="color:#635f69;font-size:13px">{plain}<br>'
    '<span style="word-break:break-all">{link}</span></p>'
)


class Seen(Struct, frozen=True, kw_only=True):
    """When something was done and from where, for a notice."""

    at_ms: int
    timezone: str | None = None
    user_agent: str = ""
    address: str = ""


def language_of(locale: str | None) -> Language:
    """The locale's language if letters are written in it, else English."""
    return "de" if (locale or "").lower().partition("-")[0] == "de" else "en"


def within(span_s: int, language: Language) -> str:
    minutes, hours, days = SPANS[language]
    if span_s < 2 * 3600:
        return minutes.format(span_s // 60)
    return hours.format(span_s // 3600) if span_s <= 72 * 3600 else days.format(span_s // (24 * 3600))


def letter(
    kind: LetterKind,
    *,
    to: str,
    language: Language,
    service: str,
    link: str | None = None,
    details: Mapping[str, str] | None = None,
    seen: Seen | None = None,
) -> Letter:
    """Write the letter. `link` is where its button leads; a notice, which has `seen`, gets the alarm's words with it.

    `details` fill the wording's places: `within`, `new_address`, `old_address`.
    """
    words, frame = LETTERS[language][kind], FRAMES[language]
    places = {"service": service, **(details or {})}
    blocks = [_filled(paragraph, places) for paragraph in words.before]
    action, after = words.action, [_filled(paragraph, places) for paragraph in words.after]
    if seen is not None:
        blocks += [f"{frame.when}: {_when(seen)}\n{frame.where}: {_where(seen, frame)}", frame.alarm]
        action = frame.alarm_action
    footer = _filled(frame.footer, places)
    return Letter(
        to=to,
        language=language,
        subject=words.subject,
        text=_text(blocks, after, link if action else None, footer),
        html=_html(words, blocks, after, frame, footer, language, action, link if action else None),
    )


def _filled(paragraph: str, places: Mapping[str, str]) -> str:
    return paragraph.format_map(places)


def _text(blocks: list[str], after: list[str], link: str | None, footer: str) -> str:
    wrapped = [_wrapped(block) for block in blocks]
    if link is not None:
        wrapped.append(link)
    wrapped += [*map(_wrapped, after), f"-- \n{_wrapped(footer)}"]
    return "\n\n".join(wrapped) + "\n"


def _wrapped(block: str) -> str:
    return "\n".join(
        textwrap.fill(line, WIDTH, break_long_words=False, break_on_hyphens=False) for line in block.split("\n")
    )


def _html(
    words: Words,
    blocks: list[str],
    after: list[str],
    frame: Frame,
    footer: str,
    language: Language,
    action: str | None,
    link: str | None,
) -> str:
    body = "".join(map(_paragraph, blocks))
    if link is not None and action is not None:
        body += _BUTTON.format(link=escape(link), action=escape(action), plain=escape(frame.plain_link))
    body += "".join(map(_paragraph, after))
    return _HTML.format(language=language, subject=escape(words.subject), body=body, footer=escape(footer))


def _paragraph(block: str) -> str:
    return f"<p>{escape(block).replace(chr(10), '<br>')}</p>"


def _when(seen: Seen) -> str:
    zone = UTC if seen.timezone is None else ZoneInfo(seen.timezone)
    return f"{datetime.fromtimestamp(seen.at_ms / 1000, zone):%Y-%m-%d %H:%M} ({seen.timezone or 'UTC'})"


def described(user_agent: str) -> str:
    """Return which app and system a user agent names, in our words; "" where it names none that we know."""
    named = user_agent.lower()
    known = (next((word for mark, word in table if mark in named), "") for table in (_APPS, _SYSTEMS))
    return ", ".join(filter(None, known))


def _where(seen: Seen, frame: Frame) -> str:
    words = described(seen.user_agent) or frame.unknown_place
    return f"{words} ({seen.address})" if seen.address else words
