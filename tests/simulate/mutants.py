"""Defects planted into the code under test, each of a kind that sync engines have shipped. A simulation that misses one is worth nothing.

A mutant is a function whose text is changed in one place. Where the text is no longer there, the mutant has to follow the code.
"""

import inspect
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

from sync import conflicts, cursor, digest, download, exchange, merge, replica


class Mutant(NamedTuple):
    """`changes`: text, and what stands instead of it."""

    name: str
    module: ModuleType
    function: str
    changes: Sequence[tuple[str, str]]


class Outdated(Exception):
    """The text that a mutant changes is no longer in its function."""


MUTANTS = (
    Mutant(
        "what came while the upload was done is taken as read",
        exchange, "_read", [("head is carried.head and not was_refused", "not was_refused")],
    ),
    Mutant(
        "a register is left out as an echo though its stamp is another",
        download, "_carry", [("change.stamp == stamp and ", "")],
    ),
    Mutant(
        "a page picks registers from its own beginning on, not from the run's",
        download, "download", [("began=place.began", "began=place.at")],
    ),
    Mutant(
        "a snapshot gives what was just written only",
        download, "download", [("began=0", "began=place.at - 1")],
    ),
    Mutant(
        "a collection that is added gets no snapshot",
        cursor, "open_run", [("if wanted:", "if wanted and not kept:")],
    ),
    Mutant("a cursor of another epoch is good", cursor, "open_run", [("cursor.epoch != epoch or", "")]),
    Mutant("a replaced stamp is not remembered", merge, "_Merging.merge", [("if is_new_pair:", "if False:")]),
    Mutant(
        "a replaced stamp is not above all that was accepted",
        merge, "_Merging._believed", [("clock.tick(self.clock,", "clock.tick(clock.ZERO,")],
    ),
    Mutant(
        "a tie is won by whoever comes last",
        merge, "_contest", [("wins(value, stamp, stored[path], mine)", "True")],
    ),
    Mutant(
        "a device's own later value is a conflict",
        conflicts, "unseen", [(" and clock.replica_of(mark.stamp) != replica", "")],
    ),
    Mutant("what was not seen by all is purged", merge, "_knows", [("device.presented >= seq", "True")]),
    Mutant(
        "a purged document keeps its sequence",
        merge, "purge", [("seq=head.seq + len(purged) + 1", "seq=document.seq")],
    ),
    Mutant("a digest keeps what was purged", merge, "purge", [("- digest.of(document)", "")]),
    Mutant(
        "a digest keeps what was replaced",
        digest, "changed", [(", less=old", "")],
    ),
    Mutant(
        "a collection that comes back is not held against its snapshot",
        replica, "Replica.receive", [("self._hold([key", "list([key")],
    ),
    Mutant(
        "what was held before a reset is gone",
        replica, "Replica.receive",
        [("self._hold(self.answered)", "[self._answered.drop(key) for key in list(self.answered)]")],
    ),
    Mutant("a result's stamp is not taken", replica, "Replica._take_result", [('if "stamp" in result', "if False")]),
    Mutant(
        "the queue goes up in the wrong order",
        replica, "Replica._first", [("key=lambda change: change.stamp", "key=lambda change: -change.stamp")],
    ),
    Mutant(
        "stamps follow the wall clock only",
        replica, "Replica.edit", [("max(self._told, self._greatest_unsent)", "ZERO")],
    ),
    Mutant(
        "a stamp is given again once the server replaced it",
        replica, "Replica.edit", [("self._unused.tick(", "replica_state.clock.tick(")],
    ),
)  # fmt: skip


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """While this holds, the code under test has the defect. Raises Outdated."""
    owner: Any = mutant.module
    *path, name = mutant.function.split(".")
    for part in path:
        owner = getattr(owner, part)
    sound = getattr(owner, name, None)
    source = "" if sound is None else textwrap.dedent(inspect.getsource(sound))
    for text, instead in mutant.changes:
        if text not in source:
            raise Outdated(f"{mutant.function} has no {text!r}; adapt the mutant {mutant.name!r}")
        source = source.replace(text, instead)
    made: dict[str, Any] = {}
    exec(compile(source, mutant.name, "exec"), vars(mutant.module), made)
    setattr(owner, name, made[name])
    try:
        yield
    finally:
        setattr(owner, name, sound)
