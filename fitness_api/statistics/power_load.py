"""What a power meter tells of a ride. NP, IF and TSS are marks of TrainingPeaks; the formulas are Coggan's."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from fitness_api.statistics.samples import Value, by_second, spans

WINDOW_S: Final = 30


def normalized_power(times_ms: Sequence[int], watts: Sequence[Value]) -> float | None:
    """Return the fourth root of the mean fourth power of the 30-second rolling mean, in W; None under 30 s of power.

    The window does not reach over a pause. Negative power, which a crank may report, counts as none. Source: Coggan 2003.
    """
    total, count = 0.0, 0
    for run in by_second(times_ms, watts):
        window: deque[float] = deque()
        held = 0.0
        for value in run:
            watt = max(0.0, value)
            window.append(watt)
            held += watt
            if len(window) > WINDOW_S:
                held -= window.popleft()
            if len(window) == WINDOW_S:
                total += (held / WINDOW_S) ** 4
                count += 1
    return None if count == 0 else float((total / count) ** 0.25)


def mean_power(times_ms: Sequence[int], watts: Sequence[Value]) -> float | None:
    """Return the mean in W over the time that was recorded, coasting included; None without a sample."""
    energy = duration = 0.0
    for value, held_ms in spans(times_ms, watts):
        energy += value * held_ms
        duration += held_ms
    return energy / duration if duration else None


def intensity_factor(normalized_w: float, ftp_w: float) -> float:
    """Return NP / FTP."""
    if ftp_w <= 0:
        raise ValueError("the threshold power is above 0")
    return normalized_w / ftp_w


def training_stress_score(seconds: float, normalized_w: float, ftp_w: float) -> float:
    """Return seconds * NP * IF / (FTP * 3600) * 100: an hour at threshold is 100. Source: Coggan 2003."""
    return seconds * normalized_w * intensity_factor(normalized_w, ftp_w) / (ftp_w * 3600) * 100


def work_kj(times_ms: Sequence[int], watts: Sequence[Value]) -> float:
    return sum(value * held_ms for value, held_ms in spans(times_ms, watts)) / 1_000_000
