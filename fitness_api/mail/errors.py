"""What mail refuses, as seen by its callers.

MailError
  ├─ MailDeferred       not taken now; the same letter may be taken later
  ├─ MailRefused        will never be taken: no such mailbox, or an address that cannot be
  └─ OutboxUnavailable  the database did not answer in time or lost its primary; call again
"""


class MailError(Exception):
    """Base of this package's errors; never raised itself."""


class MailDeferred(MailError):
    """The reason is for the log: it names no person."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class MailRefused(MailError):
    """The reason is for the log: it names no person."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class OutboxUnavailable(MailError):
    def __init__(self, detail: str, *, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
