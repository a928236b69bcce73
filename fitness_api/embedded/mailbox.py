"""Mail on one machine: an SMTP server on loopback that keeps what it is given as files, and sends nothing on.

Each mail is two files: `.eml` as it came, for a mail program, and `.txt`, its text, for the eye.
"""

import asyncio
import importlib.util
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import fitness_api
from fitness_api.embedded.data_directory import LOOPBACK, free_port
from fitness_api.embedded.supervisor import Part, Supervisor

NAME = "mailbox"
DEFAULT_PORT = 26225
READY_WITHIN_S = 30
STOP_WITHIN_S = 5


def is_installed() -> bool:
    """Its package comes with the others of one machine."""
    return importlib.util.find_spec("aiosmtpd") is not None


def url(port: int) -> str:
    return f"smtp://{LOOPBACK}:{port}"


def part(*, data: Path, port: int, log: Path) -> Part:
    return Part(
        name=NAME,
        argv=[sys.executable, "-m", "fitness_api.embedded.mailbox_smtp", data, str(port)],
        environ={"PATH": os.defpath},
        log=log,
        ready=lambda: ready(port),
        ready_within_s=READY_WITHIN_S,
        stop_within_s=STOP_WITHIN_S,
        folder=Path(fitness_api.__file__).parent.parent,
    )


async def ready(port: int) -> None:
    """Returns once it greets. Runs until cancelled."""
    while True:
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        try:
            if (await reader.readline()).startswith(b"220"):
                return
        finally:
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[str, Path]]:
    """A server of one's own on a free port, stopped at the end; yields its URL and where it keeps mail."""
    port = free_port()
    data = folder / "mail"
    data.mkdir(parents=True, exist_ok=True)
    async with Supervisor(report=lambda _: None) as supervisor:
        await supervisor.start(part(data=data, port=port, log=folder / "mailbox.log"))
        yield url(port), data
