"""The driver's errors: each has its place, and only what passes is "try again"."""

import pymongo.errors
import pytest
from pymongo.errors import OperationFailure, PyMongoError

from sync.errors import StoreUnavailable
from sync.errors_mongo import PASSING, PASSING_CODES, PASSING_LABELS, translated

# Those that say that we, or an operator, did something wrong: never to be answered by "try again".
OURS = {
    "BulkWriteError",
    "ClientBulkWriteException",
    "CollectionInvalid",
    "ConfigurationError",
    "DocumentTooLarge",
    "DuplicateKeyError",
    "EncryptedCollectionError",
    "EncryptionError",
    "InvalidName",
    "InvalidOperation",
    "InvalidURI",
    "OperationFailure",
    "ProtocolError",
    "PyMongoError",
    "WriteConcernError",
    "WriteError",
    "_OperationCancelled",
}


def test_every_error_of_the_driver_has_its_place() -> None:
    known = {
        name: kind
        for name, kind in vars(pymongo.errors).items()
        if isinstance(kind, type) and issubclass(kind, PyMongoError)
    }
    passing = {name for name, kind in known.items() if issubclass(kind, PASSING)}
    assert known.keys() - passing - OURS == set()


@pytest.mark.parametrize(
    "error",
    [
        *(PyMongoError("x", error_labels=[label]) for label in PASSING_LABELS),
        *(OperationFailure("x", code) for code in sorted(PASSING_CODES)),
        pymongo.errors.AutoReconnect("x"),
        pymongo.errors.CursorNotFound("x", 43),
    ],
)
def test_what_passes_is_unavailable(error: PyMongoError) -> None:
    with pytest.raises(StoreUnavailable) as raised, translated():
        raise error
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [OperationFailure("x", 2), pymongo.errors.DuplicateKeyError("x", 11000)])
def test_a_defect_is_itself(error: PyMongoError) -> None:
    with pytest.raises(type(error)), translated():
        raise error
