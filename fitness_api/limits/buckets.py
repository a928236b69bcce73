"""Where buckets are kept."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fitness_api.limits.gcra import Rate, Taken


class Charge(NamedTuple):
    """Between `least` and `wanted` tokens are to be taken from the bucket `name` of `subject`.

    home: what a Cluster places it by; the charges of one call have one. All three are letters, digits, `:` and `_`.
    """

    home: str
    subject: str
    name: str
    rate: Rate
    least: int
    wanted: int


class Buckets(Protocol):
    """Buckets that refill by themselves.

    - A bucket that was never charged is full.
    - Either all charges of a call are granted, each between its `least` and its `wanted`, or
      nothing is taken from any: those that refuse then have a `retry_after_us`, and all have `granted` 0.
    - In any time t a bucket grants no more than quota + rate * t, whoever asks at once.
    - Raises BucketsUnavailable if they cannot be asked now. Whether anything was taken is not known then.
    """

    async def take(self, charges: Sequence[Charge]) -> list[Taken]: ...


class BucketsUnavailable(Exception):
    """For whoever can do without; nobody else sees it."""
