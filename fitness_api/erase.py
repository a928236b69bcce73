"""Erasing an account: all that we hold of it goes, and a gravestone stays.

The gravestone is put up first, and from then on no login, token or device of the account holds. What is cut off after that
is finished by `account` or `resume`, whoever calls it. The sync store's fence comes before what is written outside its
transactions, chunks, files and devices: who writes such a thing looks at the fence afterwards and, if it is up, removes
it. A process that dies between these two leaves it behind; so all is removed once more after GRACE_MS.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from fitness_api.identity.erasure_store import ErasureStore
from fitness_api.identity.errors import StoreUnavailable
from fitness_api.workouts.import_store import ImportStore
from sync import errors as sync
from sync.store import Store
from sync.track_store import TrackStore

# Longer than any request lives that was let in before the gravestone was there: the largest file at the slowest pace at which
# a body may come, 64 MiB at 15,000 bytes in 30 s, takes 37 hours.
GRACE_MS: Final = 48 * 3600 * 1000


class Stores(NamedTuple):
    identity: ErasureStore
    sync: Store
    tracks: TrackStore
    imports: ImportStore


async def account(stores: Stores, user_id: str, *, now_ms: int) -> None:
    """Erase the account, or finish its erasure. Raises StoreUnavailable, of identity or of sync, and is then called again."""
    gravestone = await stores.identity.bury(user_id, now_ms=now_ms)
    if gravestone.stage is None:
        return
    await stores.identity.end_sessions(user_id)
    await stores.identity.remove_factors(user_id)
    await stores.identity.free_addresses(user_id)
    await stores.sync.erase(user_id, now_ms=now_ms)
    await stores.tracks.erase(user_id)
    await stores.imports.erase(user_id)
    await stores.identity.remove_devices(user_id)
    await stores.identity.remove_history(user_id)
    is_last = now_ms - gravestone.erased_at_ms >= GRACE_MS
    await stores.identity.advance(gravestone, None if is_last else "swept")


async def resume(stores: Stores, *, now_ms: int, report: Callable[[str, bool], None]) -> None:
    """Finish the erasures that were cut off, and those that were begun GRACE_MS ago.

    `report` is told of each, and whether it was possible: one account that cannot be erased now holds up no other.
    """
    after = ""
    while page := await stores.identity.unfinished(after=after):
        for gravestone in page:
            if gravestone.stage == "begun" or now_ms - gravestone.erased_at_ms >= GRACE_MS:
                try:
                    await account(stores, gravestone.user_id, now_ms=now_ms)
                except (StoreUnavailable, sync.StoreUnavailable):
                    report(gravestone.user_id, False)
                else:
                    report(gravestone.user_id, True)
        after = page[-1].user_id
