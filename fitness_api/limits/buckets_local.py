"""Buckets of this process alone, for as long as Redis does not answer."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from fitness_api.limits.buckets import Charge
from fitness_api.limits.gcra import Taken, take, untouched

# Some 200 bytes each. Beyond that many at once, those who come new share one bucket a policy: an outage of Redis may be when
# somebody comes with a million addresses, and to forget a bucket is to refill it.
MAX_BUCKETS: Final = 100_000
OVERFLOW: Final = ""


def monotonic_us() -> int:
    return time.monotonic_ns() // 1000


class LocalBuckets:
    def __init__(self, *, now_us: Callable[[], int] = monotonic_us, max_buckets: int = MAX_BUCKETS) -> None:
        self._now_us = now_us
        self._max_buckets = max_buckets
        # When each will be full, by subject and name; those charged last stand last.
        self._full_at_us: OrderedDict[tuple[str, str], int] = OrderedDict()

    async def take(self, charges: Sequence[Charge]) -> list[Taken]:
        now_us = self._now_us()
        keys = [self._key(charge, now_us) for charge in charges]
        asked = [
            take(self._full_at_us.get(key, now_us), now_us, charge.rate, least=charge.least, wanted=charge.wanted)
            for key, charge in zip(keys, charges, strict=True)
        ]
        if any(taken.retry_after_us for _, taken in asked):
            return [
                untouched(taken, charge.rate.interval_us) for (_, taken), charge in zip(asked, charges, strict=True)
            ]
        for key, (full_at_us, _) in zip(keys, asked, strict=True):
            self._full_at_us[key] = full_at_us
            self._full_at_us.move_to_end(key)
        return [taken for _, taken in asked]

    def _key(self, charge: Charge, now_us: int) -> tuple[str, str]:
        key = (charge.subject, charge.name)
        if key in self._full_at_us or len(self._full_at_us) < self._max_buckets:
            return key
        # A look at a few of the oldest each time, so that no request pays for all.
        for _ in range(2):
            oldest, full_at_us = next(iter(self._full_at_us.items()))
            if full_at_us <= now_us:
                del self._full_at_us[oldest]
            else:
                self._full_at_us.move_to_end(oldest)
        return key if len(self._full_at_us) < self._max_buckets else (OVERFLOW, charge.name)
