"""`python -m tests.fuzz --requests 1000000 --seed 1 --processes 2`; it brings a MongoDB and a Redis, unless
FITNESS_TEST_MONGO_URL and FITNESS_TEST_REDIS_URL name servers that run already.
"""

import argparse
import asyncio
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from fitness_api import migrate
from fitness_api.embedded import mongod, valkey
from tests.conftest import polled
from tests.fuzz import campaign, worker
from tests.fuzz.campaign import Figures
from tests.fuzz.gateway import database_of, opened

# From the middle of a run to its end a process may grow by so much: what its allocator does not give back.
MAX_GROWTH_BYTES: Final = 64 * 1024 * 1024


async def _replay(mongo_url: str, redis_url: str, path: Path) -> int:
    async with database_of(mongo_url) as name, opened(polled(mongo_url), redis_url, name) as gateway:
        await migrate.migrate(gateway.state["mongo"][name])
        failure = campaign.load(path)
        print(campaign.shown(failure))
        fault = await campaign.replayed(gateway, failure)
    print("it does not fail any more" if fault is None else f"it still fails: {fault}")
    return 0 if fault is None else 1


async def _main(given: argparse.Namespace) -> int:
    async with AsyncExitStack() as stack:
        mongo_url = os.environ.get("FITNESS_TEST_MONGO_URL", "")
        if not mongo_url:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            mongo_url = await stack.enter_async_context(mongod.running(folder))
        redis_url = os.environ.get("FITNESS_TEST_REDIS_URL", "")
        if not redis_url:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            redis_url = await stack.enter_async_context(valkey.running(folder))
        if given.replay is not None:
            return await _replay(mongo_url, redis_url, given.replay)
        share = -(-given.requests // given.processes)
        tasks = [(mongo_url, redis_url, share, given.seed, number) for number in range(given.processes)]
        begun = time.monotonic()
        with ProcessPoolExecutor(given.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            parts = await asyncio.gather(*(asyncio.wrap_future(pool.submit(worker.run, task)) for task in tasks))
        return _report(parts, time.monotonic() - begun, given.failures)


def _report(parts: list[worker.Part], took_s: float, folder: Path) -> int:
    figures = Figures()
    is_bounded = True
    for part, sizes, cpu_s in parts:
        figures.add(part)
        middle = max(sizes[: len(sizes) // 2 + 1])
        is_bounded = is_bounded and sizes[-1] <= middle + MAX_GROWTH_BYTES
        rate = part.requests / cpu_s
        print(
            f"{part.requests} requests, {rate:.0f}/s of CPU time, {middle >> 20} MiB in the middle, {sizes[-1] >> 20} MiB at the end"
        )
    print(
        f"{figures.requests} requests in {took_s:.0f} s ({figures.requests / took_s:.0f}/s), {figures.worlds} worlds, slowest {figures.slowest_s:.2f} s"
    )
    totals: Counter[str] = Counter()
    for name, count in figures.statuses.items():
        totals[name.rpartition(" ")[2]] += count
    for title, counts in (("statuses", dict(totals)), ("operations", figures.statuses), ("results", figures.results)):
        print(f"{title}:")
        for name, count in sorted(counts.items(), key=lambda item: -item[1]):
            print(f"  {count:9d}  {name}")
    for failure in figures.failures:
        print(campaign.shown(failure))
        print(f"again by: python -m tests.fuzz --replay {campaign.save(failure, folder)}")
    if not is_bounded:
        print("memory grew")
    return 1 if figures.failures or not is_bounded else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Mutated requests to the whole application."
    )
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--replay", type=Path, help="a failure's file: send its requests again")
    parser.add_argument("--failures", type=Path, default=Path(tempfile.gettempdir()), help="where failures are saved")
    return asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
