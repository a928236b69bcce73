"""A circuit breaker: what has failed a few times in a row is left alone for a while, then tried once."""

from typing import Final

# One failure may be a connection that was closed in the meantime; three in a row are none.
FAILURES_TO_OPEN: Final = 3
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 10.0
# A trial that never reports (its request was cancelled) must not keep the breaker open for ever.
TRIAL_WITHIN_S: Final = 5.0


class Breaker:
    """Closed: all may try. Open: none may. Half open: one may, and what becomes of it decides."""

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._barred_until_s: float | None = None  # None: closed
        self._is_on_trial = False

    @property
    def is_open(self) -> bool:
        return self._barred_until_s is not None

    def admits(self, now_s: float) -> bool:
        """Whether to try now. A yes while half open is for this caller alone."""
        if self._barred_until_s is None:
            return True
        if now_s < self._barred_until_s:
            return False
        self._is_on_trial = True
        self._barred_until_s = now_s + TRIAL_WITHIN_S
        return True

    def succeeded(self) -> None:
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._barred_until_s = None
        self._is_on_trial = False

    def failed(self, now_s: float) -> None:
        if self._barred_until_s is None:
            self._failures += 1
            if self._failures == FAILURES_TO_OPEN:
                self._barred_until_s = now_s + self._pause_s
        elif self._is_on_trial:
            self._is_on_trial = False
            self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s)
            self._barred_until_s = now_s + self._pause_s
        # Else it began before the breaker opened, and says nothing new.
