"""How much a workout asks of the heart: training impulses, and the scores that are made of them. Sources disagree, so
every variant has its name, and a result is of no use without it.
"""

from collections.abc import Sequence
from math import exp
from typing import Final, Literal

from fitness_api.statistics.samples import Value, spans

# (a, b) of `minutes * x * a * e^(b x)`. Source: Banister 1991 for men. For women GoldenCheetah (TRIMPPoints.cpp) and fellrnr keep
# men's a; many others use Morton's 1990 pair.
Variant = Literal["banister_men", "banister_women", "banister_women_086"]
_COEFFICIENTS: Final[dict[Variant, tuple[float, float]]] = {
    "banister_men": (0.64, 1.92),
    "banister_women": (0.64, 1.67),
    "banister_women_086": (0.86, 1.67),
}
_EDWARDS: Final = ((0.9, 5), (0.8, 4), (0.7, 3), (0.6, 2), (0.5, 1))

HrTssVariant = Literal["trimp", "lthr_ratio_squared", "reserve_083"]


def trimp(
    minutes: float, bpm: float, *, hr_max_bpm: float, hr_rest_bpm: float, variant: Variant = "banister_men"
) -> float:
    """Return Banister's training impulse of some minutes at one heart rate, without unit.

    Below the resting rate it is 0; above the maximum it goes on growing, as a maximum is often set too low. Raises ValueError
    if the maximum is not above the resting rate. Source: Banister 1991; worked example 30 min at 130, 200/40 → 31.80.
    """
    a, b = _COEFFICIENTS[variant]
    share = max(0.0, _share(bpm, hr_max_bpm, hr_rest_bpm))
    return minutes * share * a * exp(b * share)


def trimp_of(
    times_ms: Sequence[int],
    bpm: Sequence[Value],
    *,
    hr_max_bpm: float,
    hr_rest_bpm: float,
    variant: Variant = "banister_men",
) -> float:
    """Return the sum over a workout's samples: e^x is curved, so the mean heart rate would give less."""
    of = {"hr_max_bpm": hr_max_bpm, "hr_rest_bpm": hr_rest_bpm}
    return sum(trimp(held_ms / 60_000, value, **of, variant=variant) for value, held_ms in spans(times_ms, bpm))


def edwards(times_ms: Sequence[int], bpm: Sequence[Value], *, hr_max_bpm: float) -> float:
    """Return the minutes in each fifth from 50 % of the maximum on, times 1 to 5. Source: Edwards 1993."""
    total = 0.0
    for value, held_ms in spans(times_ms, bpm):
        weight = next((weight for share, weight in _EDWARDS if value >= share * hr_max_bpm), 0)
        total += weight * held_ms / 60_000
    return total


def session_rpe(minutes: float, rpe: float) -> float:
    """Return Foster's session load: minutes times the exertion from 0 to 10. Source: Foster 2001."""
    if not 0 <= rpe <= 10:
        raise ValueError("exertion is from 0 to 10")
    return minutes * rpe


def trimp_score(
    load: float, *, hr_max_bpm: float, hr_rest_bpm: float, lthr_bpm: float, variant: Variant = "banister_men"
) -> float:
    """Return a TRIMP in hundredths of an hour at the lactate threshold: hrTSS "trimp", an hour at threshold is 100.

    Source: GoldenCheetah, TRIMP100.
    """
    hour = trimp(60, lthr_bpm, hr_max_bpm=hr_max_bpm, hr_rest_bpm=hr_rest_bpm, variant=variant)
    if hour <= 0:
        raise ValueError("the threshold is above the resting rate")
    return 100 * load / hour


def hr_tss_lthr(hours: float, mean_bpm: float, *, lthr_bpm: float) -> float:
    """Return hrTSS "lthr_ratio_squared": hours * (mean / threshold)² * 100."""
    return hours * (mean_bpm / lthr_bpm) ** 2 * 100


def hr_tss_reserve(hours: float, mean_bpm: float, *, hr_max_bpm: float, hr_rest_bpm: float) -> float:
    """Return hrTSS "reserve_083", for which the threshold lies at 83 % of the reserve; worked example 2 h at 155, 185/45 → 179.2."""
    return hours * (_share(mean_bpm, hr_max_bpm, hr_rest_bpm) / 0.83) ** 2 * 100


def _share(bpm: float, hr_max_bpm: float, hr_rest_bpm: float) -> float:
    if hr_max_bpm <= hr_rest_bpm:
        raise ValueError("the greatest heart rate is above the resting one")
    return (bpm - hr_rest_bpm) / (hr_max_bpm - hr_rest_bpm)
