"""The fastest stretch over a distance, and the greatest mean over a time, anywhere in a recording."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from fitness_api.statistics.samples import Value, by_second

DISTANCES_M: Final = (400, 1_000, 1_609.344, 5_000, 10_000, 21_097.5, 42_195)
DURATIONS_S: Final = (5, 60, 300, 1_200, 3_600)


class Effort(Struct, frozen=True):
    """started_ms: on the recording's own time axis."""

    started_ms: int
    seconds: float


def fastest(times_ms: Sequence[int], distance_m: Sequence[float], target_m: float) -> Effort | None:
    """Return the least elapsed time, pauses included, in which the distance grew by the target; None if it never did.

    `times_ms` rises strictly and `distance_m`, which is cumulative, never falls. Between samples it is taken to grow evenly, at
    the end of the stretch and at its beginning, so that no sampling makes an effort slower.
    """
    if target_m <= 0:
        raise ValueError("the target is above 0")
    best: tuple[float, float] | None = None
    # A least time begins or ends at a sample: in between, it grows or shrinks evenly.
    for began, ended in _stretches(times_ms, distance_m, target_m):
        if best is None or ended - began < best[0]:
            best = ended - began, began
    return None if best is None else Effort(round(best[1]), best[0] / 1000)


def greatest_mean(times_ms: Sequence[int], values: Sequence[Value], seconds: int) -> tuple[float, int] | None:
    """Return the greatest mean over so many seconds without a pause, and the index of the second at which it began.

    The index counts recorded seconds. None if no unbroken stretch is that long.
    """
    if seconds < 1:
        raise ValueError("at least one second")
    best: tuple[float, int] | None = None
    before = 0
    for run in by_second(times_ms, values):
        held = sum(run[:seconds])
        for begins in range(len(run) - seconds + 1):
            if begins:
                held += run[begins + seconds - 1] - run[begins - 1]
            if best is None or held > best[0]:
                best = held, before + begins
        before += len(run)
    return None if best is None else (best[0] / seconds, best[1])


def _stretches(times_ms: Sequence[int], distance_m: Sequence[float], target_m: float) -> list[tuple[float, float]]:
    """Return (began, ended) in ms of the stretches of the target length that begin or end at a sample."""
    found: list[tuple[float, float]] = []
    if not distance_m:
        return found
    last = len(distance_m) - 1
    upper = 0
    for lower in range(len(distance_m)):
        wanted = distance_m[lower] + target_m
        while upper < last and distance_m[upper] < wanted:
            upper += 1
        if distance_m[upper] < wanted:
            break
        found.append((times_ms[lower], _when(times_ms, distance_m, upper, wanted)))
    lower = 0
    for upper in range(len(distance_m)):
        wanted = distance_m[upper] - target_m
        if wanted < distance_m[0]:
            continue
        while lower < last and distance_m[lower + 1] <= wanted:
            lower += 1
        began = times_ms[lower] if distance_m[lower] == wanted else _when(times_ms, distance_m, lower + 1, wanted)
        found.append((began, times_ms[upper]))
    return found


def _when(times_ms: Sequence[int], distance_m: Sequence[float], index: int, wanted_m: float) -> float:
    """Return when the distance reached this, which it did between the sample before `index` and the one there."""
    if index == 0 or distance_m[index] == wanted_m:
        return times_ms[index]
    share = (wanted_m - distance_m[index - 1]) / (distance_m[index] - distance_m[index - 1])
    return times_ms[index - 1] + share * (times_ms[index] - times_ms[index - 1])
