"""What can go wrong in sync, as seen by its callers. Refusals of single changes are results, not errors.

SyncError
  ├─ BatchTooLarge      more changes or bytes than one request may carry, or be compared with; halve it
  ├─ UnknownDevice      the device is not registered with this account; register and send again
  ├─ AccountDeleted     the account was erased; nothing of it comes back
  ├─ NoDocument         there is none of this id, or it is deleted
  ├─ DocumentExists     what was to be made is there, and differs
  ├─ DocumentFull       what the server itself was to write has no room in its document
  ├─ DocumentPurged     what the server itself was to write is of a document whose id is barred
  ├─ ReplicasExhausted  all 4,095 replica numbers of the account were given out
  ├─ TooManyDevices     the account holds as many devices as it may
  ├─ TrackConflict      a chunk id that was used for other content
  ├─ WorkoutTracksFull  the workout holds as many chunks, samples or paths as it may
  └─ StoreUnavailable   the database did not answer in time or lost its primary; send again
"""


class SyncError(Exception):
    """Base of this package's errors; never raised itself."""


class BatchTooLarge(SyncError):
    def __init__(self, *, max_changes: int, max_bytes: int) -> None:
        super().__init__(f"A request may carry {max_changes} changes and {max_bytes} bytes, decoded.")
        self.max_changes = max_changes
        self.max_bytes = max_bytes


class UnknownDevice(SyncError):
    def __init__(self, device_id: str) -> None:
        super().__init__(f"The device {device_id} is not registered with this account.")


class AccountDeleted(SyncError):
    def __init__(self) -> None:
        super().__init__("The account was deleted.")


class DocumentPurged(SyncError):
    def __init__(self, document_id: str) -> None:
        super().__init__(f"The document {document_id} was deleted for good.")


class NoDocument(SyncError):
    def __init__(self, document_id: str) -> None:
        super().__init__(f"There is no document {document_id}.")


class DocumentExists(SyncError):
    def __init__(self, document_id: str) -> None:
        super().__init__(f"The document {document_id} is there, and is not what was sent.")


class DocumentFull(SyncError):
    def __init__(self, document_id: str) -> None:
        super().__init__(f"The document {document_id} has no room for more.")


class ReplicasExhausted(SyncError):
    def __init__(self) -> None:
        super().__init__("Every replica number of this account was given out.")


class TooManyDevices(SyncError):
    def __init__(self, *, limit: int) -> None:
        super().__init__(f"An account holds at most {limit} devices; delete one first.")
        self.limit = limit


class TrackConflict(SyncError):
    def __init__(self, chunk: str) -> None:
        super().__init__(f"The chunk {chunk} exists with other content.")


class WorkoutTracksFull(SyncError):
    def __init__(self, *, max_chunks: int, max_samples: int) -> None:
        super().__init__(
            f"A workout holds at most {max_chunks} chunks and {max_samples} samples, as far as its document has room."
        )
        self.max_chunks = max_chunks
        self.max_samples = max_samples


class StoreUnavailable(SyncError):
    """Whether the write took effect is not known; every write of this package may be sent again."""

    def __init__(self, detail: str, *, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
