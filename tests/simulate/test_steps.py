"""Some thousand histories, each under its own seed. A million are `python -m tests.simulate --seeds 0..1000000 --processes 8`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulate.plan import generate
from tests.simulate.shrink import failure_of, shrunk, trace
from tests.simulate.steps import play

SEEDS = 3_000
_PARTS = 10
_AGAIN = 40  # histories that are played twice


@pytest.mark.parametrize("part", range(_PARTS))
def test_devices_end_alike_with_nothing_lost_whatever_fails(part: int) -> None:
    for seed in range(part, SEEDS, _PARTS):
        failure = failure_of(generate(seed))
        if failure is not None:
            short = shrunk(failure)
            pytest.fail("\n".join([f"seed {seed}: {failure.text}", f"shrunk to {short.plan}:", *trace(short.plan)]))


def test_a_history_is_the_same_whenever_and_wherever_it_is_played() -> None:
    script = (
        "from tests.simulate.plan import generate\n"
        "from tests.simulate.steps import play\n"
        f"for seed in range({_AGAIN}): print(play(generate(seed), say=lambda text: None))"
    )
    hashes = []
    for hash_seed in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", script],
            cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        hashes.append(ran.stdout.split())
    here = [play(generate(seed)) for seed in range(_AGAIN)]
    assert hashes == [here, here]
    assert len(set(here)) == _AGAIN
