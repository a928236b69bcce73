"""Oxygen uptake and energy of steady exercise, after the American College of Sports Medicine.

A MET is 3.5 mL of oxygen per kg and minute, or 1 kcal per kg and hour; the two differ by 5 %, so each has its function.
"""

from typing import Final

MET_ML: Final = 3.5
KCAL_PER_L_OXYGEN: Final = 5.0


def walking(speed_m_per_min: float, grade: float = 0.0) -> float:
    """Return mL of oxygen per kg and minute. Valid from 50 to 100 m/min; grade as a fraction, level or uphill."""
    return MET_ML + 0.1 * speed_m_per_min + 1.8 * speed_m_per_min * grade


def running(speed_m_per_min: float, grade: float = 0.0) -> float:
    """Return mL of oxygen per kg and minute. Valid above 134 m/min, or from 80 on where one truly runs."""
    return MET_ML + 0.2 * speed_m_per_min + 0.9 * speed_m_per_min * grade


def leg_cycling(work_kgm_per_min: float, weight_kg: float) -> float:
    """Return mL of oxygen per kg and minute. Valid from 300 to 1,200 kgm/min (6.12 kgm/min are 1 W)."""
    if weight_kg <= 0:
        raise ValueError("the weight is above 0")
    return 7 + 1.8 * work_kgm_per_min / weight_kg


def met(oxygen_ml: float) -> float:
    return oxygen_ml / MET_ML


def kcal_per_min(mets: float, weight_kg: float) -> float:
    """By definition, 1 MET is 1 kcal per kg and hour; worked example 7 MET, 60 kg → 7 kcal/min."""
    return mets * weight_kg / 60


def kcal_per_min_of_oxygen(mets: float, weight_kg: float) -> float:
    """By oxygen, at 5 kcal a litre: 5 % more than `kcal_per_min`."""
    return mets * MET_ML * weight_kg / 1000 * KCAL_PER_L_OXYGEN
