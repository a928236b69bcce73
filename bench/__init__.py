"""Benchmarks: always as a ratio to a limit or a peer measured in the same run. `python -m bench NAME`; see README.md."""
