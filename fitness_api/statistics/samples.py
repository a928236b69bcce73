"""Samples over time: how long each one stands, and the same by the second.

A recording tells what a sensor said at some instants. A value stands until the next one, but no longer than MAX_HOLD_MS: watches
that record only what changes are silent for up to 7 s, and what is silent for longer was paused or lost its sensor.
"""

from collections.abc import Iterator, Sequence
from typing import Final

MAX_HOLD_MS: Final = 10_000

Value = float | None


def spans(times_ms: Sequence[int], values: Sequence[Value]) -> Iterator[tuple[float, int]]:
    """Yield each value with the milliseconds for which it stands; gaps (None) are left out, the last value stands for a second.

    `times_ms` rises strictly.
    """
    for index, value in enumerate(values):
        if value is None:
            continue
        is_last = index + 1 == len(values)
        held_ms = 1_000 if is_last else min(times_ms[index + 1] - times_ms[index], MAX_HOLD_MS)
        yield value, held_ms


def by_second(times_ms: Sequence[int], values: Sequence[Value]) -> list[list[float]]:
    """Return unbroken runs of one value a second: a new one begins after a gap, or where nothing came for MAX_HOLD_MS.

    `times_ms` rises strictly. A second's value is the latest one of its beginning.
    """
    runs: list[list[float]] = []
    run: list[float] = []
    next_ms = 0
    for index, value in enumerate(values):
        at_ms = times_ms[index]
        ended = index > 0 and at_ms - times_ms[index - 1] > MAX_HOLD_MS
        if run and (value is None or ended):
            runs.append(run)
            run = []
        if value is None:
            continue
        if not run:
            next_ms = at_ms
        until_ms = at_ms + 1
        if index + 1 < len(values) and times_ms[index + 1] - at_ms <= MAX_HOLD_MS:
            until_ms = times_ms[index + 1]
        while next_ms < until_ms:
            run.append(value)
            next_ms += 1_000
    if run:
        runs.append(run)
    return runs
