"""How long devices are asked to wait before they come again, by how much this process has to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Final

# Round trips at once that one process serves without its clients noticing: at 2 to 10 ms of processor each, a queue of half a second.
COMFORTABLE: Final = 64
# A device is asked for this long at twice the comfortable number, and for longer with more.
STEP_S: Final = 5
LONGEST_S: Final = 300


class Pacing:
    def __init__(self) -> None:
        self.in_flight = 0

    @contextmanager
    def serving(self) -> Iterator[None]:
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def next_after_s(self, dice: float) -> int:
        """Return 0 while there is room. dice: 0 to 1, which spreads the devices over half to one and a half of the time."""
        excess = self.in_flight / COMFORTABLE - 1
        if excess <= 0:
            return 0
        return min(LONGEST_S, ceil(STEP_S * excess * (0.5 + dice)))
