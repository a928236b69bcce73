"""A letter, and the message that it becomes.

Source: RFC 5322, RFC 3834 (Auto-Submitted), RFC 2045 to 2049.
"""

from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime

import idna
from msgspec import Struct


class Letter(Struct, frozen=True, kw_only=True):
    """`to` is an address as its owner typed it; `language` is a BCP 47 tag. The HTML asks nothing of any server."""

    to: str
    language: str
    subject: str
    text: str
    html: str


def recipient(address: str) -> Address:
    """Return the mailbox of an address as it was typed: the domain in its ASCII form, the local part quoted where it must be.

    Raises ValueError if it cannot be an address. A comma or a bracket in it would otherwise make two of it, or an option of
    the SMTP command.
    """
    local, _, domain = address.strip().rpartition("@")
    try:
        ascii_domain = idna.encode(domain, uts46=True).decode("ascii").lower()
    except idna.IDNAError as error:
        raise ValueError("The domain cannot be.") from error
    if not local:
        raise ValueError("There is no local part.")
    return Address(username=local, domain=ascii_domain)


def sender_of(text: str) -> Address:
    """Read `Name <address>` or an address alone, as a setting has it. Raises ValueError if it is none."""
    name, opened, rest = text.strip().rpartition("<")
    if opened != "" and not rest.endswith(">"):
        raise ValueError("The address does not end with >.")
    mailbox = recipient(rest.removesuffix(">"))
    return Address(name.strip().strip('"'), mailbox.username, mailbox.domain)


def message(letter: Letter, *, sender: Address, message_id: str, sent_at_ms: int) -> EmailMessage:
    """`message_id` is unique, without brackets or a domain. Raises ValueError if the letter's address cannot be one."""
    written = EmailMessage()
    try:
        written["From"] = sender
        written["To"] = recipient(letter.to)
        written["Subject"] = letter.subject
    except MessageError as error:
        raise ValueError("A header cannot be.") from error
    written["Date"] = format_datetime(datetime.fromtimestamp(sent_at_ms / 1000, UTC))
    written["Message-ID"] = f"<{message_id}@{sender.domain}>"
    written["Auto-Submitted"] = "auto-generated"
    # Quoted-printable, which every server passes on unchanged.
    written.set_content(letter.text, cte="quoted-printable")
    written.add_alternative(letter.html, subtype="html", cte="quoted-printable")
    # At last: a header that begins with Content would else go to the first body.
    written["Content-Language"] = letter.language
    return written
