"""Makes a failing history short: steps are left out, then made plain, as long as it still fails in the same way."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.simulate.plan import Plan, Step
from tests.simulate.steps import play

_MOST_TRIES = 3_000


class Failure(NamedTuple):
    """`kind` is what went wrong without its particulars: the same for the same defect, mostly."""

    plan: Plan
    kind: str
    text: str


def failure_of(plan: Plan) -> Failure | None:
    """Play a plan. Return how it fails, or None."""
    try:
        play(plan)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is a failure
        text = f"{type(error).__name__}: {error}"
        return Failure(plan, _kind(text), text)
    return None


def _kind(text: str) -> str:
    """A failure's text up to where its ids, numbers and values begin."""
    return re.split(r"[0-9'\"({\[]| [A-C] ", text, maxsplit=1)[0][:60]


def shrunk(failure: Failure) -> Failure:
    """Return the shortest history found that fails alike."""
    tries = 0
    progress = True
    while progress and tries < _MOST_TRIES:
        progress = False
        for plan in _simpler(failure.plan):
            tries += 1
            again = failure_of(plan)
            if again is not None and again.kind == failure.kind:
                failure, progress = again, True
                break
    return failure


def _simpler(plan: Plan) -> Iterator[Plan]:
    steps = plan.steps
    size = len(steps) // 2
    while size:
        for start in range(0, len(steps), size):
            yield plan._replace(steps=steps[:start] + steps[start + size :])
        size //= 2
    if plan.ends_with_purge:
        yield plan._replace(ends_with_purge=False)
    if plan.devices > 2:
        yield plan._replace(devices=2)
    if plan.baseless or plan.subsets:
        yield plan._replace(baseless=0, subsets=0)
    if any(plan.clocks):
        yield plan._replace(clocks=(0, 0, 0))
    for index, step in enumerate(steps):
        for position, number in enumerate(step.numbers):
            if number:
                numbers = (*step.numbers[:position], 0, *step.numbers[position + 1 :])
                yield plan._replace(steps=(*steps[:index], Step(step.kind, numbers), *steps[index + 1 :]))


def trace(plan: Plan) -> list[str]:
    """Play a plan once more, and return what happened, line by line."""
    lines: list[str] = []
    try:
        play(plan, lines.append)
    except Exception as error:  # noqa: BLE001 - it is the trace's last line
        lines.append(f"{type(error).__name__}: {error}")
    return lines
