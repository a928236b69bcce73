"""The mailbox's process: `python -m fitness_api.embedded.mailbox_smtp FOLDER PORT`."""

import asyncio
import re
import signal
import sys
import time
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any, Final

from aiosmtpd.smtp import SMTP, Envelope

from fitness_api.embedded.data_directory import LOOPBACK

# A developer looks at the latest ones.
MAX_KEPT: Final = 500
MAX_MAIL_BYTES: Final = 1 << 20
_MAX_NAME: Final = 80

_NOT_FOR_A_NAME: Final = re.compile(r"[^A-Za-z0-9@._+-]")


class Mailbox:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Envelope) -> str:  # noqa: ARG002, N802
        assert isinstance(envelope.content, bytes), "unless it was asked to decode"
        self.keep(envelope.content, envelope.rcpt_tos)
        return "250 kept"

    def keep(self, content: bytes, recipients: list[str]) -> None:
        self._count += 1
        to = _NOT_FOR_A_NAME.sub("_", ",".join(recipients))[:_MAX_NAME]
        name = f"{time.time_ns():020}-{self._count:04}-{to}"
        (self._folder / f"{name}.eml").write_bytes(content)
        mail = message_from_bytes(content, policy=policy.default)
        text = mail.get_body(("plain",))
        headers = "".join(f"{header}: {mail[header]}\n" for header in ("From", "To", "Subject", "Date"))
        body = "" if text is None else text.get_content().replace("\r\n", "\n")
        (self._folder / f"{name}.txt").write_text(f"{headers}\n{body}", "utf-8")
        for kind in ("eml", "txt"):
            for old in sorted(self._folder.glob(f"*.{kind}"))[:-MAX_KEPT]:
                old.unlink(missing_ok=True)


async def serve(folder: Path, port: int) -> None:
    """Runs until SIGINT or SIGTERM."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    mailbox = Mailbox(folder)
    server = await loop.create_server(
        lambda: SMTP(mailbox, hostname=LOOPBACK, data_size_limit=MAX_MAIL_BYTES, enable_SMTPUTF8=True, loop=loop),
        host=LOOPBACK,
        port=port,
    )
    async with server:
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
