"""Tables of benchmarks: words to the left, numbers to the right."""

from collections.abc import Sequence
from statistics import quantiles

from rich.table import Table


def table(title: str, *headings: str, words: int = 1) -> Table:
    """The first so many columns hold `words`."""
    made = Table(title=title)
    for position, heading in enumerate(headings):
        made.add_column(heading, justify="left" if position < words else "right")
    return made


def percentile(samples: Sequence[float], percent: int) -> float:
    return samples[0] if len(samples) == 1 else quantiles(samples, n=100, method="inclusive")[percent - 1]
