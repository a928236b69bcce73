"""`python -m bench NAME`: run a benchmark and print its table."""

import argparse
import importlib
import sys

BENCHMARKS = {
    "identity": "Telling who calls, a known caller's request, and logins, each beside a peer.",
    "sync": "Uploads, the merge, round trips, pulls, a snapshot, bytes and refused changes, each beside a peer.",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Benchmarks. Each prints a table of ratios measured in one run.",
        epilog="; ".join(f"{name}: {what}" for name, what in BENCHMARKS.items()),
    )
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="a tenth of the work: to see that it runs, not to quote")
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="this part; may be given again")
    given = parser.parse_args()
    benchmark = importlib.import_module(f"bench.{given.name}")
    if unknown := set(given.only) - set(benchmark.PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(benchmark.PARTS)}")
    benchmark.main(quick=given.quick, only=given.only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
