"""All of the service on one machine: `fitness-api up`.

In order: the data directory, mongod, Valkey, a mailbox, the migration, the gateway; stopped in reverse. A URL in the settings
(FITNESS_MONGO_URL, FITNESS_REDIS_URL, FITNESS_SMTP_URL) takes the place of that server.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

import fitness_api
from fitness_api import migrate
from fitness_api.embedded import mailbox, mongod, valkey
from fitness_api.embedded.binaries import find_mongod, find_valkey
from fitness_api.embedded.data_directory import (
    LOOPBACK,
    MIN_FREE_BYTES,
    DataDirectory,
    free_port,
    is_free,
    opened,
)
from fitness_api.embedded.errors import ChildDied, EmbeddedError, PortTaken
from fitness_api.embedded.supervisor import Part, Supervisor
from fitness_api.settings import PREFIX, Settings, from_environment

GATEWAY = "gateway"
GATEWAY_READY_WITHIN_S = 60
# Longer than the gateway's own bound for open requests (server_uvicorn.DRAIN_WITHIN_S), which it needs for itself.
GATEWAY_STOP_WITHIN_S = 25
BOUND_LOGS_EVERY_S = 30
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, kw_only=True)
class Options:
    data: Path
    port: int | None = None


class Progress:
    """One line when a step is done, and a spinner while it lasts if somebody is looking."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, doing: str) -> Iterator[Callable[[str], None]]:
        """Give the value that it yields a word to be shown as the outcome."""
        outcome = "ready"

        def say(words: str) -> None:
            nonlocal outcome
            outcome = words

        began_s = time.monotonic()
        if self._console.is_terminal:
            with self._console.status(doing):
                yield say
        else:
            yield say
        took_s = time.monotonic() - began_s
        self._console.print(f"[green]✓[/] {doing}: {outcome} [dim]({took_s:.1f} s)[/]", highlight=False, soft_wrap=True)

    def line(self, words: str) -> None:
        self._console.print(words, highlight=False, markup=False, soft_wrap=True)


async def up(options: Options, environ: Mapping[str, str]) -> int:
    """Runs until SIGINT, SIGTERM or SIGHUP, and returns the exit status: 0 if asked to stop, 1 if something failed.

    A second signal stops at once. Raises SettingsInvalid if the environment cannot be used.
    """
    progress, errors = Progress(Console()), Console(stderr=True)
    supervisor = Supervisor(report=progress.line)
    body = asyncio.create_task(_run(options, environ, supervisor, progress))
    signalled = False

    def on_signal() -> None:
        nonlocal signalled
        if signalled:
            supervisor.hurry()
        else:
            signalled = True
            progress.line("Stopping… (once more to stop at once)")
            body.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    try:
        await body
    except asyncio.CancelledError:
        return 0
    except (EmbeddedError, migrate.MigrationRefused, OSError) as error:
        errors.print(f"[bold red]error:[/] {_escaped(str(error))}", highlight=False, soft_wrap=True)
        if isinstance(error, ChildDied):
            for line in error.last_lines:
                errors.print(f"  │ {line}", highlight=False, markup=False, soft_wrap=True)
        return 1
    return 0


async def _run(options: Options, environ: Mapping[str, str], supervisor: Supervisor, progress: Progress) -> None:
    with opened(options.data) as data:
        if data.unclean:
            progress.line("The last run did not stop by itself; the servers recover from their journals.")
        try:
            async with supervisor:
                await _start(options, environ, data, supervisor, progress)
                keeping = asyncio.create_task(_keep_logs_bounded(data))
                try:
                    await supervisor.watch()
                finally:
                    keeping.cancel()
        except ChildDied:
            # A full disk kills servers in ways of their own; this says it plainly.
            data.require_space(MIN_FREE_BYTES // 8)
            raise


async def _start(
    options: Options, environ: Mapping[str, str], data: DataDirectory, supervisor: Supervisor, progress: Progress
) -> None:
    wanted = {
        name: default
        for name, default, variable in (
            (mongod.NAME, mongod.DEFAULT_PORT, "FITNESS_MONGO_URL"),
            (valkey.NAME, valkey.DEFAULT_PORT, "FITNESS_REDIS_URL"),
            (mailbox.NAME, mailbox.DEFAULT_PORT, "FITNESS_SMTP_URL"),
        )
        if variable not in environ and (name != mailbox.NAME or mailbox.is_installed())
    }
    ports = data.ports(wanted)
    chosen = gateway_environment(options, environ, ports=ports, master_key=data.master_key())
    settings = from_environment(chosen)
    if not is_free(settings.port, settings.host):
        raise PortTaken(
            port=settings.port, what="the API", remedy="Stop what listens there, or choose another with --port."
        )

    memory_bytes = usable_memory_bytes()
    search_path = environ.get("PATH", os.defpath)
    if mongod.NAME in ports:
        with progress.step("MongoDB") as say:
            program = await asyncio.to_thread(find_mongod, search_path)
            await supervisor.start(
                mongod.part(
                    program,
                    data=data.mongod,
                    port=ports[mongod.NAME],
                    log=data.log(mongod.NAME),
                    memory_bytes=memory_bytes,
                )
            )
            say(f"ready on {LOOPBACK}:{ports[mongod.NAME]}")
    if valkey.NAME in ports:
        with progress.step("Valkey") as say:
            program = await asyncio.to_thread(find_valkey, search_path)
            await supervisor.start(
                valkey.part(
                    program,
                    data=data.valkey,
                    port=ports[valkey.NAME],
                    log=data.log(valkey.NAME),
                    memory_bytes=memory_bytes,
                )
            )
            say(f"ready on {LOOPBACK}:{ports[valkey.NAME]}")
    if mailbox.NAME in ports:
        with progress.step("Mailbox") as say:
            port = ports[mailbox.NAME]
            await supervisor.start(mailbox.part(data=data.mail, port=port, log=data.log(mailbox.NAME)))
            say(f"ready on {LOOPBACK}:{port}")
    with progress.step("Collections and indexes") as say:
        steps = await migrate.migrate_url(settings.mongo_url, settings.mongo_database)
        say(f"{len(steps)} made" if steps else "up to date")
    with progress.step("Gateway") as say:
        await supervisor.start(gateway(settings, chosen, log=data.log(GATEWAY)))
        say(f"ready on {settings.host}:{settings.port}")
    for line in farewell(settings, data.path, mail_is_kept=mailbox.NAME in ports):
        progress.line(line)


def gateway_environment(
    options: Options, environ: Mapping[str, str], *, ports: Mapping[str, int], master_key: str
) -> dict[str, str]:
    """The child's environment: what is set wins over what is remembered, and --port over both."""
    ours = {"FITNESS_MASTER_KEY": master_key, "FITNESS_PORT": "8080"}
    if mongod.NAME in ports:
        ours["FITNESS_MONGO_URL"] = mongod.url(ports[mongod.NAME])
    if valkey.NAME in ports:
        ours["FITNESS_REDIS_URL"] = valkey.url(ports[valkey.NAME])
    if mailbox.NAME in ports:
        ours["FITNESS_SMTP_URL"] = mailbox.url(ports[mailbox.NAME])
    chosen = {**ours, **environ}
    if options.port is not None:
        chosen["FITNESS_PORT"] = str(options.port or free_port())
    # One's own machine: `simulate` enrols a hundred accounts from it at once. What each account may do holds here too.
    chosen.setdefault(f"{PREFIX}SHARED_NETWORKS", "127.0.0.0/8,::1")
    chosen.setdefault(f"{PREFIX}PUBLIC_URL", f"http://{LOOPBACK}:{chosen['FITNESS_PORT']}")
    return chosen


def gateway(settings: Settings, environ: Mapping[str, str], *, log: Path) -> Part:
    return Part(
        name=GATEWAY,
        argv=[sys.executable, "-m", "fitness_api", "serve"],
        environ=environ,
        log=log,
        ready=lambda: _serves(settings),
        ready_within_s=GATEWAY_READY_WITHIN_S,
        stop_within_s=GATEWAY_STOP_WITHIN_S,
        # `-m` looks in the working directory first, where another `fitness_api` may lie: it gets the one that runs.
        folder=Path(fitness_api.__file__).parent.parent,
    )


async def _serves(settings: Settings) -> None:
    host = {"0.0.0.0": LOOPBACK, "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104 - compared, not bound
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        while True:
            try:
                answer = await client.get(f"http://{host}:{settings.port}/readyz")
                if answer.is_success:
                    return
            except httpx.HTTPError:
                pass  # Not listening yet; the supervisor bounds the wait and sees it die.
            await asyncio.sleep(0.05)


async def _keep_logs_bounded(data: DataDirectory) -> None:
    while True:
        await asyncio.sleep(BOUND_LOGS_EVERY_S)
        await asyncio.to_thread(data.bound_logs)


def farewell(settings: Settings, data: Path, *, mail_is_kept: bool) -> list[str]:
    at = settings.public_url.rstrip("/")
    return [
        "",
        f"  API      {at}/v1",
        f"  Docs     {at}/docs",
        f"  Health   {at}/readyz",
        f"  MongoDB  {_without_password(settings.mongo_url)}",
        f"  Redis    {_without_password(settings.redis_url)}",
        f"  Mail     {'is kept in ' + str(data / 'mail') if mail_is_kept else _mail(settings)}",
        f"  Data     {data} (logs in {data / 'logs'})",
        "",
        "Try it:",
        "",
        f"  curl -s {at}/v1/auth/register -H 'content-type: application/json' \\",
        """    -d '{"email": "ada@example.com", "password": "correct horse battery staple"}'""",
        "",
        "Ctrl-C stops everything; the data stays.",
    ]


def _mail(settings: Settings) -> str:
    return "is not sent" if settings.smtp_url is None else _without_password(settings.smtp_url)


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    return f"{scheme}://{login.partition(':')[0]}:***@{place}" if at else url


def _escaped(words: str) -> str:
    return words.replace("[", r"\[")


def usable_memory_bytes() -> int:
    """The machine's memory, or what a container may use of it."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):
        return machine
