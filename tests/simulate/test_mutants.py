"""The simulation finds each defect that is planted, within a few thousand histories."""

import pytest

from tests.simulate.mutants import MUTANTS, Mutant, planted
from tests.simulate.plan import generate
from tests.simulate.shrink import failure_of, shrunk

# The hardest of them needs some eight hundred.
MOST_SEEDS = 3_000


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_planted_defect_is_found(mutant: Mutant) -> None:
    with planted(mutant):
        assert any(failure_of(generate(seed)) is not None for seed in range(MOST_SEEDS))


def test_a_failing_history_is_made_short() -> None:
    [mutant] = [one for one in MUTANTS if one.name == "a replaced stamp is not remembered"]
    with planted(mutant):
        failure = next(failure for seed in range(MOST_SEEDS) if (failure := failure_of(generate(seed))) is not None)
        short = shrunk(failure)
    assert short.kind == failure.kind
    assert len(short.plan.steps) < len(failure.plan.steps)
    assert len(short.plan.steps) <= 3
    assert failure_of(short.plan) is None  # the defect is gone
