"""Tables of benchmarks: words to the left, numbers to the right."""

from collections.abc import Sequence
from statistics import quantiles

from rich.table import Table

_OF_WORDS = frozenset({"what", "when", "body"})


def table(title: str, *headings: str) -> Table:
    made = Table(title=title)
    for heading in headings:
        made.add_column(heading, justify="left" if heading in _OF_WORDS else "right")
    return made


def percentile(samples: Sequence[float], percent: int) -> float:
    return samples[0] if len(samples) == 1 else quantiles(samples, n=100, method="inclusive")[percent - 1]
