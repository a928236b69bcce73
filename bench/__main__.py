"""`python -m bench NAME`: run a benchmark and print its table."""

import argparse
import importlib
import sys

BENCHMARKS = {
    "sync": "Uploads through HTTP beside raw bulk upserts and a hand-written handler; the merge beside pycrdt."
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Benchmarks. Each prints a table of ratios measured in one run.",
        epilog="; ".join(f"{name}: {what}" for name, what in BENCHMARKS.items()),
    )
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="a tenth of the work: to see that it runs, not to quote")
    given = parser.parse_args()
    importlib.import_module(f"bench.{given.name}").main(quick=given.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
