"""With which codes WebSockets end, and what a client does then.

It reconnects with jitter on 4408, 4429, 4503 and on codes outside 4400 to 4499; on 4401 with a new token; else never.
"""

from enum import IntEnum


class CloseCode(IntEnum):
    MALFORMED = 4400
    NOT_AUTHORISED = 4401
    NOT_ALLOWED = 4403
    SILENT = 4408
    REPLACED = 4409
    TOO_LARGE = 4413
    BEYOND_LIMITS = 4429
    DRAINING = 4503
    """The reason is `after_ms=<n>`: how long to wait before reconnecting."""
