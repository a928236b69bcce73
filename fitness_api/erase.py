"""Erasing an account: all that we hold of it goes, and a gravestone stays.

The gravestone is put up first, and from then on no login, token or device of the account holds. What is cut off after that
is finished by `account` or `resume`, whoever calls it. The sync store's fence comes before what is written outside its
transactions, chunks, files and devices: who writes such a thing looks at the fence afterwards and, if it is up, removes
it. A process that dies between these two leaves it behind; so all is removed once more after GRACE_MS.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple
from uuid import uuid4

from fitness_api.identity import gravestones
from fitness_api.identity.erasure_store import ErasureStore
from fitness_api.identity.errors import StoreUnavailable
from fitness_api.identity.key_ring import wall_clock_ms
from fitness_api.leases import Leases
from fitness_api.statistics.fact_store import FactStore
from fitness_api.workouts.import_store import ImportStore
from sync import errors as sync
from sync.store import Store
from sync.track_store import TrackStore

# Longer than any request lives that was let in before the gravestone was there: the largest file at the slowest pace at which
# a body may come, 64 MiB at 15,000 bytes in 30 s, takes 37 hours.
GRACE_MS: Final = 48 * 3600 * 1000
# How often a gateway looks for erasures that were cut off; one gateway of all does.
RESUMED_EVERY_S: Final = 300
_LEASE: Final = "erasures"

_log = logging.getLogger("fitness_api.erase")


class Stores(NamedTuple):
    identity: ErasureStore
    sync: Store
    tracks: TrackStore
    imports: ImportStore
    facts: FactStore


async def account(stores: Stores, user_id: str, *, now_ms: int) -> None:
    """Erase the account, or finish its erasure. Raises StoreUnavailable, of identity or of sync, and is then called again."""
    gravestone = await stores.identity.bury(user_id, now_ms=now_ms)
    if gravestone.stage is None:
        return
    await stores.identity.end_logins(user_id)
    await stores.sync.erase(user_id, now_ms=now_ms)
    await stores.tracks.erase(user_id)
    await stores.imports.erase(user_id)
    await stores.facts.erase(user_id)
    await stores.identity.remove_rest(user_id)
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


@asynccontextmanager
async def resuming(
    stores: Stores, leases: Leases, *, every_s: float = RESUMED_EVERY_S, now_ms: Callable[[], int] = wall_clock_ms
) -> AsyncIterator[None]:
    """Meanwhile resume, now and then, what any process left; and forget addresses that were kept for long enough."""
    task = asyncio.create_task(_resume_for_ever(stores, leases, every_s, now_ms))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _resume_for_ever(stores: Stores, leases: Leases, every_s: float, now_ms: Callable[[], int]) -> None:
    holder = str(uuid4())
    while True:
        # Gateways that were started at once should not all ask at once.
        await asyncio.sleep(every_s * (0.5 + secrets.randbelow(1000) / 1000))
        try:
            # It is not left but ends by itself, so that no other one looks within the time. Two at once would do no harm.
            if await leases.take(_LEASE, holder, for_s=round(every_s)):
                await resume(stores, now_ms=now_ms(), report=_log_one)
                await stores.identity.forget_addresses(erased_before_ms=now_ms() - gravestones.KEPT_MS)
        except (StoreUnavailable, sync.StoreUnavailable) as error:
            _log.warning("erasures are resumed later: %s", error)
        except Exception:  # noqa: BLE001
            # A defect that one account shows should not keep all others from being erased until the next deployment.
            _log.exception("erasures could not be resumed")


def _log_one(_: str, is_done: bool) -> None:
    """Logs name no user."""
    _log.log(logging.INFO if is_done else logging.WARNING, "an erasure was %s", "finished" if is_done else "put off")
