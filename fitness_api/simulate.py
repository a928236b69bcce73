"""`fitness-api simulate`: a fleet of devices against any API, under faults, with progress and a verdict."""

import asyncio
import secrets
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from fitness_api.fleet import run
from fitness_api.fleet.errors import EnrolmentRefused
from fitness_api.fleet.run import Fleet, Plan

_WIDTH = 110  # where the output is no terminal
_REFRESH_S = 0.5
_LINE_EVERY_S = 10  # without a terminal
_PERCENTILES = (50, 95, 99, 100)


def new_seed() -> int:
    return secrets.randbelow(1_000_000)


def main(plan: Plan) -> int:
    """Return the exit status: 0 only if all is well."""
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    try:
        return asyncio.run(play(console, plan))
    except EnrolmentRefused as error:
        console.print(f"fitness-api simulate: {error}", style="red", markup=False)
        return 1


async def play(console: Console, plan: Plan) -> int:
    """Raises EnrolmentRefused."""
    console.print(
        f"{plan.devices} devices of {plan.accounts} accounts against {plan.url} for {plan.minutes:g} min; offline "
        f"{plan.offline:.0%} of the time; faults: {', '.join(sorted(plan.faults)) or 'none'}; seed {plan.seed}.",
        highlight=False,
        soft_wrap=True,
    )
    async with run.enrolled(plan) as fleet:
        watching = asyncio.create_task(_watch(console, fleet, plan))
        try:
            await run.live(fleet, plan)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        console.print("The faults end; the fleet settles.")
        found = await run.settle(fleet)
        console.print(summary(fleet))
    return _say(console, found, fleet, plan)


async def _watch(console: Console, fleet: Fleet, plan: Plan) -> None:
    if not console.is_terminal:
        while True:
            await asyncio.sleep(_LINE_EVERY_S)
            console.print(_line(fleet), highlight=False)
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + plan.minutes * 60
    with Live(console=console, transient=True, auto_refresh=False) as display:
        while True:
            display.update(f"{max(0, ends_s - loop.time()):.0f} s to go · {_line(fleet)}", refresh=True)
            await asyncio.sleep(_REFRESH_S)


def _line(fleet: Fleet) -> str:
    members = fleet.members
    waiting = sum(len(member.replica.unsent) for member in members)
    online = sum(member.is_online for member in members)
    return f"{online} of {len(members)} online · {fleet.edits:,} edits · {waiting:,} in queues · {len(fleet.exchanges):,} requests"


def summary(fleet: Fleet) -> Table:
    table = Table(title="Requests")
    for heading in (
        "what",
        "requests",
        "no answer",
        "refused",
        "bytes up",
        "bytes down",
        *map(_percentile, _PERCENTILES),
    ):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for kind in ("sync", "digest", "fetch", "register"):
        these = [one for one in fleet.exchanges if one.kind == kind]
        if not these:
            continue
        took_ms = sorted(one.elapsed_ms for one in these if one.status is not None)
        table.add_row(
            kind,
            f"{len(these):,}",
            f"{sum(one.status is None for one in these):,}",
            f"{sum(one.status is not None and one.status >= 400 for one in these):,}",
            f"{sum(one.up_bytes for one in these):,}",
            f"{sum(one.down_bytes for one in these):,}",
            *(f"{_at(took_ms, percent):.0f}" for percent in _PERCENTILES),
        )
    return table


def _percentile(percent: int) -> str:
    return "most ms" if percent == 100 else f"p{percent} ms"


def _at(ordered: Sequence[float], percent: int) -> float:
    """Nearest rank; 0 of nothing."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else 0


def _say(console: Console, found: Sequence[str], fleet: Fleet, plan: Plan) -> int:
    met = ", ".join(f"{name} {count}" for name, count in sorted(fleet.met.items()))
    console.print(f"{fleet.edits:,} edits. Faults met: {met or 'none'}.", highlight=False)
    if not found:
        documents = sum(len(devices[0].replica.answered) for devices in fleet.accounts if devices)
        console.print(
            f"Converged: the devices of each account hold the same {documents:,} documents, register by register, as the "
            "server's digests say; every queue is empty, and nothing was lost.",
            style="green",
            highlight=False,
            soft_wrap=True,
        )
        return 0
    for line in found:
        console.print(line, style="red", highlight=False, markup=False, soft_wrap=True)
    console.print(f"Not well. Again with --seed {plan.seed}; timing is not part of it.", style="red", highlight=False)
    return 1
