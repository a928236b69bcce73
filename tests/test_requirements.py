"""The locks are what pyproject.toml asks for. `scripts/lock` makes them anew."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import fitness_api

CHECKOUT = Path(fitness_api.__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
BASE = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]

Pins = dict[str, tuple[Version, Marker | None, frozenset[str]]]


def pins(lock: str) -> Pins:
    """name → version, marker, hashes"""
    text = re.sub(r"^ *#.*\n", "", (CHECKOUT / lock).read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: Pins = {}
    for line in text.splitlines():
        requirement = Requirement(line.split(" --hash")[0])
        [pin] = requirement.specifier
        assert pin.operator == "==", line
        hashes = frozenset(re.findall(r"--hash=(\S+)", line))
        found[canonicalize_name(requirement.name)] = (Version(pin.version), requirement.marker, hashes)
    return found


RUN, DEV = pins("requirements.lock"), pins("requirements-dev.lock")


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [(RUN, [*BASE, *EXTRAS["embedded"]]), (DEV, [*BASE, *(each for extra in EXTRAS.values() for each in extra)])],
    ids=["run", "dev"],
)
def test_every_dependency_is_pinned_within_its_range(lock: Pins, wanted: list[str]) -> None:
    for requirement in map(Requirement, wanted):
        version, _, _ = lock[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"{requirement} is pinned at {version}; run scripts/lock"


def test_what_is_run_is_what_is_tested() -> None:
    for name, (version, _, hashes) in RUN.items():
        assert (version, hashes) == (DEV[name][0], DEV[name][2]), name


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock", "requirements-recordings.lock"])
def test_every_pin_has_hashes_and_no_lock_names_a_place(lock: str) -> None:
    assert all(hashes for _, _, hashes in pins(lock).values())
    text = (CHECKOUT / lock).read_text()
    for place in ("://", "--index", "--find-links", " @ ", "/home", "/tmp"):
        assert place not in text


def test_tools_are_not_installed_to_run() -> None:
    assert {"pytest", "mypy", "ruff", "hypothesis"} <= DEV.keys() - RUN.keys()
