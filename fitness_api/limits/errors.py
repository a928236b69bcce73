"""What limits refuse.

LimitsError
  ├─ RateLimited         a policy's quota is used up; says when to come again
  └─ LimitsUnavailable   Redis cannot be asked, and without it this policy lets nobody through
"""


class LimitsError(Exception):
    """Base of this package's errors; never raised itself."""


class RateLimited(LimitsError):
    def __init__(self, *, retry_after_s: int) -> None:
        super().__init__(f"Too many requests of this kind; come again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class LimitsUnavailable(LimitsError):
    def __init__(self) -> None:
        super().__init__("Tries cannot be counted at the moment, and uncounted ones are not let through.")
        self.retry_after_s = 2
