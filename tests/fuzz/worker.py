"""One process of a campaign. In a file of its own, because a started process cannot import a package's `__main__`."""

import asyncio
import faulthandler
import sys
import time
import warnings
from typing import Final, NamedTuple

import psutil

from fitness_api import migrate
from tests.conftest import polled
from tests.fuzz import campaign
from tests.fuzz.campaign import Figures
from tests.fuzz.gateway import database_of, opened

# Requests between two reports, and the time after which one is taken to hang: where, is printed.
_PART: Final = 5_000
_HANGS_AFTER_S: Final = 600


class Part(NamedTuple):
    """What one process did; `sizes` are its resident bytes over time."""

    figures: Figures
    sizes: list[int]
    cpu_s: float


async def _process(mongo_url: str, redis_url: str, requests: int, seed: int, number: int) -> Part:
    figures, sizes = Figures(), list[int]()
    begun = time.process_time()
    process = psutil.Process()
    async with database_of(mongo_url) as name, opened(polled(mongo_url), redis_url, name) as gateway:
        await migrate.migrate(gateway.state["mongo"][name])
        part = 0
        while figures.requests < requests and not figures.failures:
            faulthandler.dump_traceback_later(_HANGS_AFTER_S, exit=True)
            wanted = min(_PART, requests - figures.requests)
            figures.add(await campaign.run(gateway, requests=wanted, seed=(seed * 1_000 + number) * 1_000_000 + part))
            sizes.append(process.memory_info().rss)
            part += 1
            print(f"process {number}: {figures.requests} requests, {sizes[-1] >> 20} MiB", file=sys.stderr, flush=True)
            for failure in figures.failures:  # at once: the other processes go on
                print(campaign.shown(failure), file=sys.stderr, flush=True)
        faulthandler.cancel_dump_traceback_later()
    return Part(figures, sizes, time.process_time() - begun)


def run(given: tuple[str, str, int, int, int]) -> Part:
    warnings.simplefilter("error")
    return asyncio.run(_process(*given))
