"""What the MongoDB driver raises, in this package's words: an outage, after which everything may be sent again, or a defect.

    with translated(): …

One table for every adapter. A defect (a command that the server does not take, say) is not translated: as "try again" it would
be tried for ever, and nobody would look.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pymongo.errors import (
    ConnectionFailure,
    CursorNotFound,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)

from sync.errors import StoreUnavailable

# A primary that steps down, a network that comes back, a queue that empties, a cursor that died with its server.
PASSING: Final[tuple[type[PyMongoError], ...]] = (ConnectionFailure, CursorNotFound, ExecutionTimeout, WTimeoutError)
PASSING_LABELS: Final = ("RetryableWriteError", "TransientTransactionError", "UnknownTransactionCommitResult")
# What a mongos answers for a shard that it does not reach, or a server that is being overrun or filled.
# Source: https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
PASSING_CODES: Final = frozenset(
    {
        6,  # HostUnreachable
        7,  # HostNotFound
        89,  # NetworkTimeout
        133,  # FailedToSatisfyReadPreference
        134,  # ReadConcernMajorityNotAvailableYet
        150,  # StaleEpoch
        262,  # ExceededTimeLimit
        9001,  # SocketException
        13388,  # StaleConfig
        14031,  # OutOfDiskSpace
    }
)


def is_passing(error: PyMongoError) -> bool:
    return (
        isinstance(error, PASSING)
        or error.timeout
        or any(map(error.has_error_label, PASSING_LABELS))
        or (isinstance(error, OperationFailure) and error.code in PASSING_CODES)
    )


@contextmanager
def translated() -> Iterator[None]:
    """Raises StoreUnavailable for what passes."""
    try:
        yield
    except PyMongoError as error:
        if not is_passing(error):
            raise
        raise StoreUnavailable(f"MongoDB: {type(error).__name__}") from error
