"""The command line: `fitness-api serve | migrate | epoch | erase | keys | admin | up | demo | simulate`.

Each command imports what it needs itself, so that --help answers at once and a bad setting is told before anything
is loaded.
"""

import argparse
import asyncio
import gc
import os
import signal
import sys
import time
from base64 import b64decode
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from uuid import UUID

from msgspec.structs import fields

from fitness_api.settings import Settings, SettingsInvalid, from_environment

# Allocations between collections, as many as some ten uploads of 100 workouts make.
GARBAGE_THRESHOLD = 50_000

# What `simulate` can do to a device; fitness_api.fleet.faults, which is not imported for --help, has the same.
FAULTS = ("drop", "duplicate", "delay", "reset", "clock", "crash", "corrupt")

USAGE_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except SettingsInvalid as error:
        print(f"fitness-api: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fitness-api",
        description="The backend of a fitness app.",
        epilog="Settings are environment variables: " + ", ".join(settings_names()) + ".",
    )
    parser.add_argument("--version", action="version", version=f"fitness-api {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="<command>", required=True)

    command = commands.add_parser(
        "up",
        help="all of it on this machine, with a MongoDB and a Valkey of its own",
        description="Starts a MongoDB, a Valkey and the API, and stops them together. "
        "FITNESS_MONGO_URL and FITNESS_REDIS_URL name servers that run already.",
    )
    command.add_argument("--data", type=Path, default=Path(".data"), help="what is kept, and logs (default: .data)")
    command.add_argument("--port", type=_port, help="the API's port; 0 for any that is free (default: 8080)")
    command.set_defaults(run=_up)

    command = commands.add_parser("serve", help="the API, as one process", description="Serves HTTP and WebSockets.")
    command.set_defaults(run=_serve)

    command = commands.add_parser(
        "migrate",
        help="make collections, indexes and shard keys",
        description="Makes what is missing and drops nothing; running it again does nothing.",
    )
    command.add_argument("--dry-run", action="store_true", help="show what would be made")
    command.set_defaults(run=_migrate)

    command = commands.add_parser(
        "epoch",
        help="after a restore: make devices start anew",
        description="Makes every device take a snapshot and bring back what the restored database lacks. To be run after a restore, "
        "before the gateways serve; see docs/operations.md.",
    )
    command.add_argument("action", choices=("bump",))
    command.add_argument("--account", metavar="USER_ID", help="only this account's devices (default: all)")
    command.set_defaults(run=_epoch)

    command = commands.add_parser(
        "erase",
        help="erase accounts, or finish erasures",
        description="Erases accounts as DELETE /v1/me does. There is no way back. Running it again does no harm.",
    )
    command.add_argument(
        "--resume", action="store_true", help="finish every erasure that was cut off or waits for its last pass"
    )
    command.add_argument("--find", metavar="ADDRESS", help="list the erased accounts that had this e-mail address")
    command.add_argument(
        "users", nargs="*", type=UUID, metavar="USER_ID", help="an account to erase, known here or not"
    )
    command.set_defaults(run=_erase)

    command = commands.add_parser(
        "keys",
        help="list the keys that sign access tokens, or rotate them",
        description="Keys rotate by themselves every 90 days. By hand the next one signs at once, and nobody is logged out.",
    )
    command.add_argument("action", choices=("list", "rotate"))
    command.add_argument(
        "--compromised",
        action="store_true",
        help="the key leaked: what it signed holds no more, so that every app refreshes its tokens",
    )
    command.set_defaults(run=_keys)

    command = commands.add_parser(
        "admin",
        help="let an account administer",
        description="Grants an account the scopes analytics:read and admin, from its next login or refresh on.",
    )
    command.add_argument("email", metavar="EMAIL", help="the account's address")
    command.add_argument("--revoke", action="store_true", help="withdraw them; its tokens that have them end")
    command.set_defaults(run=_admin)

    command = commands.add_parser(
        "demo",
        help="a watch and a phone against a running API",
        description="A new account, a watch that imports a ride and a phone: both edit it offline, sync, and show what came of it.",
    )
    command.add_argument(
        "recording", nargs="?", type=Path, metavar="FILE.fit", help="a ride of your own (default: a synthetic one)"
    )
    command.add_argument("--url", default="http://127.0.0.1:8080", help="where the API is (default: %(default)s)")
    command.set_defaults(run=_demo)

    command = commands.add_parser(
        "simulate",
        help="a fleet of devices with faults against a running API",
        description="Devices that share accounts edit, go offline and meet faults, all on their own side; then they settle and are compared. "
        "The exit status is 0 only if all hold the same, every queue is empty and nothing was lost.",
    )
    command.add_argument("--url", default="http://127.0.0.1:8080", help="where the API is (default: %(default)s)")
    command.add_argument(
        "--devices", type=_positive, default=12, help="of all accounts together (default: %(default)s)"
    )
    command.add_argument("--accounts", type=_positive, default=4, help="that they share (default: %(default)s)")
    command.add_argument("--minutes", type=float, default=1.0, help="before they settle (default: %(default)s)")
    command.add_argument("--offline", type=_share, default=0.3, help="share of the time, 0 to 1 (default: %(default)s)")
    command.add_argument(
        "--faults",
        type=_names,
        default=frozenset(FAULTS),
        help=f"some of {','.join(FAULTS)}, or none (default: all)",
    )
    command.add_argument("--seed", type=int, help="the dice's (default: another one every time)")
    command.set_defaults(run=_simulate)
    return parser


def settings_names() -> list[str]:
    return sorted(f"FITNESS_{field.name.upper()}" for field in fields(Settings))


def _version() -> str:
    try:
        return version("fitness-backend")
    except PackageNotFoundError:
        return "(not installed)"


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("a port is between 0 and 65535")
    return port


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError("a share is between 0 and 1")
    return share


def _names(text: str) -> frozenset[str]:
    names = frozenset(text.split(",")) - {"", "none"}
    if unknown := names - set(FAULTS):
        raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}")
    return names


def _up(arguments: argparse.Namespace) -> int:
    from fitness_api.up import Options, up

    return asyncio.run(up(Options(data=arguments.data, port=arguments.port), os.environ))


def _serve(_: argparse.Namespace) -> int:
    settings = from_environment(os.environ)

    from fitness_api import app
    from fitness_api.middleware import configure_logging
    from fitness_api.server_uvicorn import allow_many_connections, server_of

    configure_logging()
    allow_many_connections()
    server = server_of(app.build(settings), host=settings.host, port=settings.port)
    # What was imported stays: the collector need not walk it again. A request makes thousands of short-lived objects and few
    # cycles; the default of 700 makes the collector run dozens of times in one upload.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
    # uvicorn raises the signal that stopped it once more when it is done; with these it ends with status 0.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    server.run()
    return 0 if server.started else 1


def _migrate(arguments: argparse.Namespace) -> int:
    settings = from_environment(os.environ)

    from fitness_api.migrate import MigrationRefused, migrate_url

    try:
        steps = asyncio.run(
            migrate_url(settings.mongo_url, settings.mongo_database, report=print, dry_run=arguments.dry_run)
        )
    except MigrationRefused as error:
        print(f"fitness-api: {error}", file=sys.stderr)
        return 1
    if arguments.dry_run:
        for step in steps:
            print(f"would {step}")
    if not steps:
        print("nothing to do")
    return 0


def _epoch(arguments: argparse.Namespace) -> int:
    settings = from_environment(os.environ)

    from fitness_api.resources import open_resources
    from sync.errors import AccountDeleted, StoreUnavailable

    async def bump() -> bool:
        async with open_resources(settings) as resources:
            if arguments.account is not None:
                return await resources["sync_store"].bump_epoch(arguments.account)
            await resources["sync_store"].bump_all_epochs()
            return True

    try:
        is_there = asyncio.run(bump())
    except (AccountDeleted, StoreUnavailable) as error:
        print(f"fitness-api: {error}", file=sys.stderr)
        return 1
    if not is_there:
        print(f"fitness-api: no device of {arguments.account} ever synced.", file=sys.stderr)
        return 1
    print("Every device's cursor is foreign now: its next round trip is answered by a reset.")
    return 0


def _erase(arguments: argparse.Namespace) -> int:
    if not arguments.resume and not arguments.users and not arguments.find:
        print("fitness-api: name accounts to erase, or --resume, or an address to --find.", file=sys.stderr)
        return USAGE_ERROR
    settings = from_environment(os.environ)

    from fitness_api import erase
    from fitness_api.bodies import rfc3339
    from fitness_api.errors import InvalidBody
    from fitness_api.identity.accounts import normalised_address
    from fitness_api.identity.errors import IdentityError
    from fitness_api.resources import open_resources
    from sync.errors import SyncError

    left: list[str] = []

    def report(user_id: str, is_done: bool) -> None:
        print(f"{'erased' if is_done else 'could not erase'} {user_id}")
        if not is_done:
            left.append(user_id)

    async def run() -> None:
        async with open_resources(settings) as resources:
            now_ms = time.time_ns() // 1_000_000
            for user_id in map(str, arguments.users):
                await erase.account(resources["erased"], user_id, now_ms=now_ms)
                report(user_id, True)
            if arguments.find:
                for buried in await resources["erased"].identity.of_address(normalised_address(arguments.find)):
                    print(f"{buried.user_id} erased {rfc3339(buried.erased_at_ms)}")
            if arguments.resume:
                await erase.resume(resources["erased"], now_ms=now_ms, report=report)

    try:
        asyncio.run(run())
    except (IdentityError, SyncError, InvalidBody) as error:
        print(f"fitness-api: {error}", file=sys.stderr)
        return 1
    return 1 if left else 0


def _keys(arguments: argparse.Namespace) -> int:
    settings = from_environment(os.environ)

    from fitness_api.bodies import rfc3339
    from fitness_api.identity.errors import IdentityError
    from fitness_api.identity.key_ring import KeyRing
    from fitness_api.identity.signing_keys import StoredKey
    from fitness_api.resources import open_resources

    async def run() -> tuple[int | None, list[StoredKey]]:
        async with open_resources(settings) as resources:
            ring = KeyRing(resources["accounts"], b64decode(settings.master_key))
            from_ms = None
            if arguments.action == "rotate":
                from_ms = await ring.rotate(compromised=arguments.compromised)
            return from_ms, await ring.listed()

    try:
        from_ms, keys = asyncio.run(run())
    except IdentityError as error:
        print(f"fitness-api: {error}", file=sys.stderr)
        return 1
    for key in keys:
        print(f"{key.kid}  {key.state:8} since {rfc3339(key.state_since_ms)}")
    if from_ms is not None:
        print(
            f"fitness-api: not every verifier knows the next key yet; rotate again from {rfc3339(from_ms)} on.",
            file=sys.stderr,
        )
        return 1
    return 0


def _admin(arguments: argparse.Namespace) -> int:
    settings = from_environment(os.environ)

    from fitness_api.errors import InvalidBody
    from fitness_api.identity.errors import IdentityError
    from fitness_api.identity.grants import set_service_scopes
    from fitness_api.resources import open_resources

    async def run() -> str | None:
        async with open_resources(settings) as resources:
            user_id = await set_service_scopes(
                resources["accounts"], resources["audit"], arguments.email, are_granted=not arguments.revoke
            )
            if user_id is not None:
                resources["revocations"].announce(user_id)
            return user_id

    try:
        user_id = asyncio.run(run())
    except (IdentityError, InvalidBody) as error:
        print(f"fitness-api: {error}", file=sys.stderr)
        return 1
    if user_id is None:
        print(f"fitness-api: nobody has the address {arguments.email}.", file=sys.stderr)
        return 1
    print(f"{'withdrawn from' if arguments.revoke else 'granted to'} {user_id}")
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from fitness_api import demo

    return int(demo.main(arguments.url, arguments.recording))


def _simulate(arguments: argparse.Namespace) -> int:
    from fitness_api import simulate
    from fitness_api.fleet.run import Plan

    return simulate.main(
        Plan(
            url=arguments.url,
            devices=arguments.devices,
            accounts=min(arguments.accounts, arguments.devices),
            minutes=arguments.minutes,
            offline=arguments.offline,
            faults=arguments.faults,
            seed=simulate.new_seed() if arguments.seed is None else arguments.seed,
        )
    )
