"""Hands letters to an SMTP server, a connection each.

    smtps://user:password@smtp.example.org          TLS from the first byte, port 465
    smtp://user:password@smtp.example.org:587       STARTTLS, and nothing is sent without it
    smtp://127.0.0.1:1025                           on this machine: STARTTLS where it is offered
    smtp://mailpit:1025?starttls=never              in clear, for a network that nobody else hears

Source: RFC 5321 section 4.2.1 (replies), RFC 3207 (STARTTLS), RFC 8314 (port 465).
"""

import asyncio
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

import aiosmtplib
from aiosmtplib import errors as smtp
from msgspec import Struct

from fitness_api.mail import letter as letters
from fitness_api.mail.errors import MailDeferred, MailError, MailRefused
from fitness_api.mail.letter import Letter

# Shorter than the lease under which a letter is sent: who takes longer has it sent by another gateway as well.
SEND_WITHIN_S: Final = 30

_PORTS: Final = {"smtps": 465, "smtp": 587}


class Place(Struct, frozen=True, kw_only=True):
    """Where the server is. starttls: True must be, None where it is offered, False never; with `tls` it means nothing."""

    host: str
    port: int
    username: str | None
    password: str | None
    tls: bool
    starttls: bool | None

    def __repr__(self) -> str:
        return f"Place({self.host}:{self.port}, …)"


def place(url: str) -> Place:
    """Raises ValueError if the URL names no server."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(
            "An SMTP server is smtp://host:port or smtps://host:port, with user:password@ before the host."
        )
    if parts.path.strip("/") or parts.fragment:
        raise ValueError("Nothing but ?starttls=never may follow the host and port.")
    options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    if options not in ({}, {"starttls": ["never"]}):
        raise ValueError("The only option is starttls=never.")
    never = bool(options)
    if never and parts.username is not None and not _is_local(parts.hostname):
        raise ValueError("A password is not sent in clear: leave starttls=never out, or the password.")
    return Place(
        host=parts.hostname,
        port=parts.port or _PORTS[parts.scheme],
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        tls=parts.scheme == "smtps",
        starttls=False if never else None if _is_local(parts.hostname) else True,
    )


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class SmtpSender:
    """`sender` is `Name <address>` or an address. Raises ValueError if the URL or the sender cannot be."""

    def __init__(
        self,
        url: str,
        *,
        sender: str,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        within_s: float = SEND_WITHIN_S,
    ) -> None:
        self._place = place(url)
        self._sender = letters.sender_of(sender)
        self._now_ms = now_ms
        self._within_s = within_s

    async def send(self, letter: Letter, *, message_id: str) -> None:
        try:
            to = letters.recipient(letter.to).addr_spec
            message = letters.message(letter, sender=self._sender, message_id=message_id, sent_at_ms=self._now_ms())
        except ValueError as error:
            raise MailRefused("The address cannot be one.") from error
        at = self._place
        client = aiosmtplib.SMTP(
            hostname=at.host,
            port=at.port,
            username=at.username,
            password=at.password,
            use_tls=at.tls,
            start_tls=False if at.tls else at.starttls,
            local_hostname=self._sender.domain,
            timeout=self._within_s,
        )
        try:
            async with asyncio.timeout(self._within_s):
                await client.connect()
                await client.send_message(message, sender=self._sender.addr_spec, recipients=[to])
        except (smtp.SMTPException, OSError, ValueError) as error:  # a TimeoutError is an OSError
            raise refusal(error) from error
        finally:
            # Without a QUIT, whose answer could be waited for in vain: a mail that was taken stays taken (RFC 5321 section 4.1.1.10).
            client.close()


def refusal(error: Exception) -> MailError:
    """Return what the driver's error means for the letter."""
    match error:
        case smtp.SMTPRecipientsRefused(recipients=[first, *_]):
            return refusal(first)
        case smtp.SMTPRecipientRefused() | smtp.SMTPDataError() if 500 <= error.code <= 599:
            return MailRefused(_said(error))
        case smtp.SMTPNotSupported():
            # An address that only a server with SMTPUTF8 can take.
            return MailRefused(type(error).__name__)
        case smtp.SMTPResponseException():
            # Whatever else it says it says of us, of our password or of itself, and an operator may mend it.
            return MailDeferred(_said(error))
        case smtp.SMTPException() | OSError():
            # A certificate that nobody vouches for is an OSError, and a ValueError besides.
            return MailDeferred(type(error).__name__)
        case _:
            # An address that no command can carry.
            return MailRefused(type(error).__name__)


def _said(error: smtp.SMTPResponseException) -> str:
    # Not the text: servers repeat the address in it.
    return f"{type(error).__name__} {error.code}"
