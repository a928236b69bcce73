"""A real SMTP server on this loop, which keeps what it is given."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session


class Inbox:
    """`refusal`: what it says to each recipient instead of taking the mail, such as `550 no such user`."""

    def __init__(self) -> None:
        self.port = 0
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.over_tls: list[bool] = []
        self.refusal: str | None = None
        self.hangs = False
        self._came = asyncio.Event()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if self.refusal is not None:
            return self.refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.hangs:
            await asyncio.sleep(60)
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        self.recipients.append(envelope.rcpt_tos)
        self.over_tls.append(session.ssl is not None)
        self._came.set()
        return "250 taken"

    async def mail(self, number: int = 0) -> EmailMessage:
        """Wait for so many mails and one; return that one."""
        async with asyncio.timeout(20):
            while len(self.mails) <= number:
                self._came.clear()
                await self._came.wait()
        return self.mails[number]

    async def to(self, address: str, subject: str = "") -> EmailMessage:
        """Wait for a mail to this address whose subject has these words."""
        seen = 0
        while True:
            mail = await self.mail(seen)
            if self.recipients[seen] == [address] and subject in str(mail["Subject"]):
                return mail
            seen += 1


@asynccontextmanager
async def inbox(
    *, tls: ssl.SSLContext | None = None, from_the_start: bool = False, **options: Any
) -> AsyncIterator[Inbox]:
    kept = Inbox()
    loop = asyncio.get_running_loop()
    context = None if from_the_start else tls
    server = await loop.create_server(
        lambda: SMTP(kept, hostname="smtp.test", tls_context=context, loop=loop, **options),
        host="127.0.0.1",
        port=0,
        ssl=tls if from_the_start else None,
    )
    kept.port = server.sockets[0].getsockname()[1]
    try:
        yield kept
    finally:
        server.close()
        await server.wait_closed()


def text_of(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def html_of(mail: EmailMessage) -> str:
    part = mail.get_body(("html",))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def link_of(mail: EmailMessage) -> str:
    """The one link of a mail, the same in its text and in its HTML."""
    (link,) = re.findall(r"^https?://\S+$", text_of(mail), flags=re.MULTILINE)
    assert set(Links.of(html_of(mail))) == {link}
    return str(link)


class Links(HTMLParser):
    """Whatever a mail program might ask a server for, or send a reader to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    @classmethod
    def of(cls, html: str) -> list[str]:
        parser = cls()
        parser.feed(html)
        return parser.found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in {"href", "src", "background", "srcset", "poster", "action"} or "url(" in (value or ""):
                self.found.append(value or "")
