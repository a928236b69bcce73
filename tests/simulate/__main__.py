"""python -m tests.simulate --seeds 0..10000 [--processes 2]: play histories; show the first that fails in each way, made short."""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterable

from tests.simulate.plan import generate
from tests.simulate.shrink import Failure, failure_of, shrunk, trace

_SEEDS_A_TASK = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulate")
    parser.add_argument("--seeds", required=True, help="A..B, without B; or one")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--trace", action="store_true", help="show what happens under each seed")
    given = parser.parse_args()
    first, _, end = given.seeds.partition("..")
    seeds = range(int(first), int(end) if end else int(first) + 1)
    if given.trace:
        for seed in seeds:
            print(f"seed {seed}: {generate(seed)._replace(steps=())}", *trace(generate(seed)), sep="\n")
        return 0
    began = time.monotonic()
    failures: dict[str, list[Failure]] = {}
    for failure in _play(seeds, given.processes):
        alike = failures.setdefault(failure.kind, [])
        alike.append(failure)
        if len(alike) == 1:
            _show(failure)
    took_s = time.monotonic() - began
    print(f"{len(seeds)} histories, {len(seeds) / took_s:.0f} a second; {sum(map(len, failures.values()))} failed")
    for kind, alike in failures.items():
        print(f"{len(alike)} x {kind!r}: seeds {[one.plan.seed for one in alike[:10]]}")
    return 1 if failures else 0


def _play(seeds: range, processes: int) -> Iterable[Failure]:
    tasks = [range(at, min(at + _SEEDS_A_TASK, seeds.stop)) for at in range(seeds.start, seeds.stop, _SEEDS_A_TASK)]
    if processes == 1:
        for task in tasks:
            yield from _failures(task)
        return
    with multiprocessing.Pool(processes) as pool:
        for found in pool.imap_unordered(_failures, tasks):
            yield from found


def _failures(seeds: range) -> list[Failure]:
    return [failure for seed in seeds if (failure := failure_of(generate(seed))) is not None]


def _show(failure: Failure) -> None:
    short = shrunk(failure)
    print(f"seed {failure.plan.seed} fails: {failure.text}", f"shrunk to {short.plan}:", sep="\n")
    print(*(f"    {line}" for line in trace(short.plan)), sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
