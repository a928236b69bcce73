"""Charts as SVG: pictures for people, with titles and descriptions for those who listen.

Drawn with presentation attributes alone, without styles, scripts or fonts of their own, so that they show under any content security
policy. Everything that is not a number is escaped.
"""

import itertools
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from math import ceil, floor, log10
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from fitness_api.statistics.samples import MAX_HOLD_MS, Value
from fitness_api.statistics.training_load import Day

WIDTH: Final = 960
HEIGHT: Final = 400
_LEFT: Final = 56
_RIGHT: Final = 56
_TOP: Final = 40
_BOTTOM: Final = 44

# From grey to red, as apps and watches have them; each has 3:1 against the white behind it.
ZONE_COLOURS: Final = ("#8c8c8c", "#3b82c4", "#2e9e5b", "#c98a00", "#d4572a", "#b3261e")
_PULSE: Final = "#b3261e"
_GROUND: Final = "#9aa5b1"
_INK: Final = "#1f2933"
_GRID: Final = "#d9dee4"
_FITNESS: Final = "#1d6fb8"
_FATIGUE: Final = "#b3446c"
_FORM: Final = "#8a6d00"
_LOAD: Final = "#b8c4d0"

_MINUTES: Final = (1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 960, 1_440)
_TICKS: Final = 8


class _Scale(NamedTuple):
    """Maps [low, high] to [begin, end]."""

    low: float
    high: float
    begin: float
    end: float

    def at(self, value: float) -> str:
        share = (value - self.low) / (self.high - self.low)
        return f"{self.begin + share * (self.end - self.begin):.1f}".removesuffix(".0")


def workout(
    *,
    title: str,
    pulse: tuple[Sequence[int], Sequence[Value]] | None,
    altitude: tuple[Sequence[int], Sequence[Value]] | None,
    zone_bounds_bpm: Sequence[float] | None = None,
) -> str:
    """Draw heart rate (bpm) before its zones, and altitude (m) below, over the time since the first sample; either may be None.

    Samples are (times in ms, values); no line is drawn over a gap or a pause.
    """
    known = [series for series in (pulse, altitude) if series and any(value is not None for value in series[1])]
    if not known:
        return _document(title, "No heart rate and no altitude were recorded.", [_note("Nothing was recorded")])
    began = min(times[0] for times, _ in known)
    ended = max(*(times[-1] for times, _ in known), began + 1000)
    across = _Scale(began, ended, _LEFT, WIDTH - _RIGHT)
    parts: list[str] = []
    told: list[str] = [f"{_minutes(ended - began)} min."]
    if altitude in known and altitude is not None:
        lines, low, high = _altitude(altitude, across)
        parts += lines
        told.append(f"Altitude from {low:.0f} to {high:.0f} m.")
    if pulse in known and pulse is not None:
        lines, low, high = _pulse(pulse, across, zone_bounds_bpm)
        parts += lines
        told.append(f"Heart rate from {low:.0f} to {high:.0f} bpm.")
    parts += _time_axis(across)
    return _document(title, " ".join(told), parts)


def load(days: Sequence[Day], *, first_day: date, title: str) -> str:
    """Draw each day's load as a bar, and fitness (CTL), fatigue (ATL) and form (TSB) as lines."""
    if not days:
        return _document(title, "There is no training yet.", [_note("No training yet")])
    low = min(0.0, *(day.tsb for day in days))
    high = max(10.0, *(max(day.ctl, day.atl) for day in days))
    tallest = max(1.0, *(day.load for day in days))
    across = _Scale(-0.5, len(days) - 0.5, _LEFT, WIDTH - _RIGHT)
    up = _Scale(low, high * 1.05, HEIGHT - _BOTTOM, _TOP)
    bars = _Scale(0, tallest * 2.5, HEIGHT - _BOTTOM, _TOP)  # in the lower part, behind the lines
    width = max(0.5, 0.7 * (WIDTH - _LEFT - _RIGHT) / len(days))
    parts = _grid(up, "")
    for index, day in enumerate(days):
        if day.load > 0:
            top = float(bars.at(day.load))
            parts.append(
                f'<rect x="{float(across.at(index)) - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" '
                f'height="{HEIGHT - _BOTTOM - top:.1f}" fill="{_LOAD}"/>'
            )
    for name, colour, values in (
        ("Fatigue", _FATIGUE, [day.atl for day in days]),
        ("Form", _FORM, [day.tsb for day in days]),
        ("Fitness", _FITNESS, [day.ctl for day in days]),
    ):
        points = " ".join(f"{across.at(index)},{up.at(value)}" for index, value in enumerate(values))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"><title>{name}</title></polyline>'
        )
    parts += _legend((("Fitness", _FITNESS), ("Fatigue", _FATIGUE), ("Form", _FORM), ("Load", _LOAD)))
    parts += _day_axis(across, first_day, len(days))
    last = days[-1]
    told = f"{len(days)} days. At the end fitness {last.ctl:.0f}, fatigue {last.atl:.0f}, form {last.tsb:.0f}."
    return _document(title, told, parts)


def _pulse(
    series: tuple[Sequence[int], Sequence[Value]], across: _Scale, bounds: Sequence[float] | None
) -> tuple[list[str], float, float]:
    values = [value for value in series[1] if value is not None]
    low, high = min(values), max(values)
    up = _Scale(floor(low / 10) * 10 - 5, ceil(high / 10) * 10 + 5, HEIGHT - _BOTTOM, _TOP)
    parts: list[str] = []
    edges = [up.low, *(bound for bound in bounds or () if up.low < bound < up.high), up.high]
    below = sum(bound <= up.low for bound in bounds or ())
    if bounds:
        for index, (lower, upper) in enumerate(itertools.pairwise(edges)):
            zone = min(below + index, len(ZONE_COLOURS) - 1)
            top, bottom = up.at(upper), up.at(lower)
            parts.append(
                f'<rect x="{_LEFT}" y="{top}" width="{WIDTH - _LEFT - _RIGHT}" height="{float(bottom) - float(top):.1f}" '
                f'fill="{ZONE_COLOURS[zone]}" fill-opacity="0.14"><title>Zone {zone}</title></rect>'
            )
    parts += _grid(up, "bpm")
    parts += _lines(series, across, up, _PULSE)
    return parts, low, high


def _altitude(series: tuple[Sequence[int], Sequence[Value]], across: _Scale) -> tuple[list[str], float, float]:
    values = [value for value in series[1] if value is not None]
    low, high = min(values), max(values)
    # In the lower half, and never so stretched that a flat road looks like the Alps.
    up = _Scale(low - 5, low - 5 + max(100.0, 2.2 * (high - low)), HEIGHT - _BOTTOM, _TOP)
    parts = []
    for run in _runs(series):
        points = " ".join(f"{across.at(at)},{up.at(value)}" for at, value in run)
        floor_y = HEIGHT - _BOTTOM
        first, last = across.at(run[0][0]), across.at(run[-1][0])
        parts.append(
            f'<polygon points="{first},{floor_y} {points} {last},{floor_y}" fill="{_GROUND}" fill-opacity="0.45"/>'
        )
    parts += [
        f'<text x="{WIDTH - _RIGHT + 6}" y="{up.at(value)}" font-size="12" fill="{_INK}" dominant-baseline="middle">{value:.0f} m</text>'
        for value in (low, high)
    ]
    return parts, low, high


def _lines(series: tuple[Sequence[int], Sequence[Value]], across: _Scale, up: _Scale, colour: str) -> Iterable[str]:
    for run in _runs(series):
        points = " ".join(f"{across.at(at)},{up.at(value)}" for at, value in run)
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-linejoin="round"/>'


def _runs(series: tuple[Sequence[int], Sequence[Value]]) -> list[list[tuple[int, float]]]:
    """Return the unbroken stretches. Down-sampled series have wide steps, so a pause is what is wide among them."""
    times, values = series
    usual = (times[-1] - times[0]) / max(1, len(times) - 1)
    longest = max(MAX_HOLD_MS, 5 * usual)
    runs: list[list[tuple[int, float]]] = []
    broken = True
    for index, (at, value) in enumerate(zip(times, values, strict=True)):
        if value is None:
            broken = True
            continue
        if broken or at - times[index - 1] > longest:
            runs.append([])
        runs[-1].append((at, value))
        broken = False
    return runs


def _grid(up: _Scale, unit: str) -> list[str]:
    parts = []
    for value in _nice(up.low, up.high, 6):
        y = up.at(value)
        parts.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="{_GRID}"/>')
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y}" font-size="12" fill="{_INK}" text-anchor="end" dominant-baseline="middle">{value:g}</text>'
        )
    if unit:
        parts.append(
            f'<text x="{_LEFT - 8}" y="{_TOP - 12}" font-size="12" fill="{_INK}" text-anchor="end">{unit}</text>'
        )
    return parts


def _time_axis(across: _Scale) -> list[str]:
    minutes = (across.high - across.low) / 60_000
    days = _MINUTES[-1] * ceil(minutes / _TICKS / _MINUTES[-1])  # two samples may lie centuries apart
    step = next((step for step in _MINUTES if minutes / step <= _TICKS), days)
    parts = []
    for minute in range(0, int(minutes) + 1, step):
        label = f"{minute // 60}:{minute % 60:02}" if minutes >= 60 else f"{minute} min"
        parts.append(_tick(across.at(across.low + minute * 60_000), label))
    return parts


def _day_axis(across: _Scale, first_day: date, count: int) -> list[str]:
    days = [first_day + timedelta(days=index) for index in range(count)]
    if count <= 31:
        marked = [
            (index, f"{day.day}.{day.month}.") for index, day in enumerate(days) if index % ceil(count / _TICKS) == 0
        ]
    else:
        months = [
            (index, day) for index, day in enumerate(days) if day.day == 1 and (count <= 400 or day.month in {1, 7})
        ]
        step = ceil(len(months) / (2 * _TICKS)) or 1
        marked = [(index, f"{day.year}-{day.month:02}") for index, day in months[::step]]
    return [_tick(across.at(index), label) for index, label in marked]


def _tick(x: str, label: str) -> str:
    y = HEIGHT - _BOTTOM
    return (
        f'<line x1="{x}" x2="{x}" y1="{y}" y2="{y + 5}" stroke="{_INK}"/>'
        f'<text x="{x}" y="{y + 20}" font-size="12" fill="{_INK}" text-anchor="middle">{label}</text>'
    )


def _legend(entries: Iterable[tuple[str, str]]) -> list[str]:
    parts = []
    for index, (name, colour) in enumerate(entries):
        x = _LEFT + 110 * index
        parts.append(
            f'<rect x="{x}" y="{HEIGHT - 16}" width="14" height="8" fill="{colour}"/>'
            f'<text x="{x + 20}" y="{HEIGHT - 8}" font-size="12" fill="{_INK}">{name}</text>'
        )
    return parts


def _note(text: str) -> str:
    return f'<text x="{WIDTH // 2}" y="{HEIGHT // 2}" font-size="16" fill="{_INK}" text-anchor="middle">{escape(text)}</text>'


def _document(title: str, description: str, parts: Iterable[str]) -> str:
    heading = escape("".join(character for character in title if character.isprintable()))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        'aria-labelledby="title description" font-family="system-ui, sans-serif">'
        f'<title id="title">{heading}</title><desc id="description">{escape(description)}</desc>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        f'<text x="{_LEFT}" y="22" font-size="15" font-weight="600" fill="{_INK}">{heading}</text>'
        f"{''.join(parts)}</svg>\n"
    )


def _nice(low: float, high: float, most: int) -> list[float]:
    """Return at most so many round numbers within the range: multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / most
    magnitude = 10 ** floor(log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw)
    return [index * step for index in range(ceil(low / step), floor(high / step) + 1)]


def _minutes(ms: float) -> int:
    return round(ms / 60_000)
