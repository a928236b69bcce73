"""Synchronisation, part by part. Each part has servers of its own, and finds nothing that another left behind."""

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from bench import (
    sync_bytes,
    sync_merge,
    sync_pulls,
    sync_rejected,
    sync_rest,
    sync_snapshot,
    sync_trips,
    sync_uploads,
)

PARTS: Mapping[str, Callable[..., None]] = {
    "uploads": sync_uploads.run,
    "merge": sync_merge.run,
    "trips": sync_trips.run,
    "pulls": sync_pulls.run,
    "snapshot": sync_snapshot.run,
    "bytes": sync_bytes.run,
    "rest": sync_rest.run,
    "rejected": sync_rejected.run,
}


def main(*, quick: bool, only: Sequence[str] = ()) -> None:
    console = Console(width=120)
    for part in only or PARTS:
        console.print(f"[bold]{part}")
        PARTS[part](console, quick=quick)
