"""A history to be played: steps that a seed gives, each whole in itself, so that any may be left out.

A step names its device, document and so on by number, taken modulo what there is when it is played; a step that then makes no sense
does nothing. That is what lets a failing history shrink.
"""

import random
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

Kind = Literal[
    "edit",  # device, document, what, value, more
    "bad",  # device, document, what is wrong
    "sync",  # device, manner, fault: one round trip
    "run",  # device, manner: round trips until the device is content
    "start",  # device, manner, stops: a request goes out, and the server works on it for so many awaits
    "go",  # device, stops: on with it; what is finished is received
    "abandon",  # device: it gives up waiting; the server goes on
    "ghost",  # which, stops: on with a request that nobody waits for
    "again",  # which, stops: an old request arrives once more
    "crash",  # device: its process dies; a request under way may be answered to nobody
    "keep",  # device: a backup of the phone is made
    "return",  # device, which, how: the phone is restored from a backup
    "reinstall",  # device: its store is lost, and with it what was not sent
    "forget",  # device: it is removed from the account by another
    "collections",  # device, which: it asks for others than before
    "foreign",  # device, how: its cursor is not one of this account's
    "corrupt",  # device, document, how: its store is damaged
    "clock",  # device, how: somebody sets its clock
    "wait",  # how long
    "hand",  # watch, phone: the phone carries what the watch has not sent
    "tell",  # watch, phone: the watch is told the results
    "fill",  # document, what: the server writes
    "backup",
    "restore",  # which: the server is restored from an earlier copy
    "retry",  # which: of the quarantine
    "recover",  # which: a lost value is brought back
]


class Step(NamedTuple):
    kind: Kind
    numbers: tuple[int, ...]


class Plan(NamedTuple):
    """devices: how many. subsets: which of them, as bits, ask for some collections only. max_paths: of a document."""

    seed: int
    devices: int
    subsets: int
    baseless: int
    max_paths: int
    clocks: tuple[int, ...]
    ends_with_purge: bool
    steps: tuple[Step, ...]


# What each kind of fault adds to the steps; a history has some kinds only, so that each is met deeply in its short length.
_ALWAYS: Final[dict[Kind, int]] = {"edit": 38, "sync": 26, "run": 6, "start": 8, "go": 12, "wait": 4}
_SOMETIMES: Final[Sequence[dict[Kind, int]]] = (
    {"start": 12, "go": 22},
    {"abandon": 6, "ghost": 6, "again": 10},
    {"crash": 8},
    {"keep": 12, "return": 12},
    {"reinstall": 5, "forget": 4},
    {"collections": 12},
    {"foreign": 10},
    {"corrupt": 14, "run": 6},
    {"clock": 8},
    {"wait": 16},
    {"hand": 12, "tell": 10},
    {"fill": 8},
    {"backup": 12, "restore": 12},
    {"bad": 10, "retry": 8},
    {"recover": 14, "edit": 10, "sync": 10},
)
_CHANCE: Final = 0.25  # of each of the above
_WIDEST: Final = 1 << 16


def generate(seed: int) -> Plan:
    dice = random.Random(seed)
    weights = dict(_ALWAYS)
    for kinds in _SOMETIMES:
        if dice.random() < _CHANCE:
            for kind, weight in kinds.items():
                weights[kind] = weights.get(kind, 0) + weight
    length = dice.randint(5, 30)
    drawn = dice.choices(list(weights), list(weights.values()), k=length)
    bits = dice.getrandbits
    steps = tuple(
        Step(kind, (noise & 0xFFFF, noise >> 16 & 0xFFFF, noise >> 32 & 0xFFFF, noise >> 48 & 0xFFFF, noise >> 64))
        for kind in drawn
        for noise in [bits(80)]
    )
    has_odd_clocks = dice.random() < 0.4
    return Plan(
        seed=seed,
        devices=2 if dice.random() < 0.6 else 3,
        subsets=bits(3) if "collections" in weights else 0,
        baseless=bits(3) & bits(3) & bits(3),
        max_paths=5 if dice.random() < 0.1 else 100,
        clocks=tuple(bits(16) if has_odd_clocks and dice.random() < 0.6 else 0 for _ in range(3)),
        ends_with_purge=dice.random() < 0.15,
        steps=steps,
    )
