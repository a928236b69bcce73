"""The port to what was imported. Adapter: `import_store_mongo`."""

from collections.abc import AsyncIterator
from typing import Protocol

from msgspec import Struct

from fitness_api.workouts.recording import FileFormat


class Merged(Struct, frozen=True, kw_only=True):
    """What an import added to a workout that was there before: registers that it lacked, and chunks."""

    paths: list[str]
    chunks: list[str]


class ImportRecord(Struct, frozen=True, kw_only=True):
    """`sha256`, in hex, and `size_bytes` are the decompressed file's.

    merged: by workout; those that are not in it are the import's own.
    generation: how often the file's workouts were deleted for good before; a purged id is not given again.
    """

    user_id: str
    sha256: str
    format: FileFormat
    import_id: str
    generation: int = 0
    workouts: list[str]
    warnings: list[str]
    size_bytes: int
    created_at_ms: int
    merged: dict[str, Merged] = {}


class ImportStore(Protocol):
    """What every adapter keeps to; tests/fitness_api/workouts/test_import_store_mongo.py checks each bullet.

    - A file is recorded once: of writers that race, one is told True.
    - Where there is a record, there is its whole file.
    - What `record` returned is durable (majority, journaled), and every later read sees it.
    - `record` knows of no erasure: who writes asks the account's sync store afterwards, and then calls `erase`.
    - Accounts do not meet: another account's imports are not found.
    - Every method raises sync.errors.StoreUnavailable when the database does not answer; all may then be called again.
    """

    async def find(self, user_id: str, sha256: str) -> ImportRecord | None: ...

    async def find_by_id(self, user_id: str, import_id: str) -> ImportRecord | None: ...

    async def next(self, user_id: str, *, after: str) -> ImportRecord | None:
        """Return the next record, by `sha256`."""
        ...

    async def record(self, record: ImportRecord, file: bytes) -> bool:
        """Keep the file, then the record. Return False if the file was recorded already, in this generation or a later one."""
        ...

    async def separate(self, record: ImportRecord) -> None:
        """Keep `record`, whose workouts are its own now, in the place of the one of its file and generation."""
        ...

    def read_file(self, record: ImportRecord) -> AsyncIterator[bytes]:
        """Give the file, piece by piece."""
        ...

    async def erase(self, user_id: str) -> None:
        """Remove the account's records and files (not atomically; cut off in between, it is called again)."""
        ...
