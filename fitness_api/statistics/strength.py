"""The one-repetition maximum that a set tells, and the volume of a session."""

from typing import Final, Literal

Formula = Literal["epley", "brzycki"]

# Beyond it the estimates of both formulas part, and neither was made for it.
MAX_REPS: Final = 12


def one_rep_max(weight_kg: float, reps: int, *, rir: float = 0, formula: Formula = "epley") -> float | None:
    """Return the estimated maximum in kg; None where no formula is valid: under one repetition or over 12, those in reserve included.

    rir: repetitions in reserve, those that were left. One repetition with none left is itself the maximum. At 10 both formulas
    agree. Source: Epley 1985, Brzycki 1993; worked example 100 kg * 5 → 116.67 and 112.5.
    """
    done = reps + rir
    if reps < 1 or rir < 0 or done > MAX_REPS or weight_kg <= 0:
        return None
    if done == 1:
        return float(weight_kg)
    match formula:
        case "epley":
            return weight_kg * (1 + done / 30)
        case "brzycki":
            return weight_kg * 36 / (37 - done)


def rir_of_rpe(rpe: float) -> float:
    """Return the repetitions in reserve that an exertion of a set says: 10 - RPE. Source: Zourdos 2016, Helms 2016."""
    return 10 - rpe


def volume_kg(sets: list[tuple[float, int]]) -> float:
    """Return the sum of weight * repetitions; sets without a weight are no part of it."""
    return sum(weight_kg * reps for weight_kg, reps in sets)
