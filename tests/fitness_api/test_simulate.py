"""A fleet with every fault against a gateway of this process, and verdicts: good when all is well, and bad when it should be."""

from typing import Any

import httpx
import pytest
from rich.console import Console

from fitness_api import simulate
from fitness_api.embedded.data_directory import free_port
from fitness_api.fleet import run
from fitness_api.fleet.faults import FAULTS
from fitness_api.fleet.run import Plan
from tests.fitness_api.test_demo import gateway_url

__all__ = ["gateway_url"]


def plan(url: str, **changed: Any) -> Plan:
    given = {"devices": 5, "accounts": 2, "minutes": 0.1, "offline": 0.3, "faults": frozenset(FAULTS), "seed": 3}
    return Plan(url=url, **{**given, **changed})


async def test_a_fleet_with_every_fault_converges_and_says_so(gateway_url: str) -> None:
    console = Console(width=110, record=True, force_terminal=False)
    assert await simulate.play(console, plan(gateway_url)) == 0
    said = console.export_text()
    assert "Converged" in said
    assert "5 devices of 2 accounts" in said
    assert "Faults met: " in said
    for fault in ("drop", "duplicate", "delay"):
        assert f"{fault} " in said


async def test_a_fleet_that_is_not_well_is_found_out(gateway_url: str) -> None:
    calm = plan(gateway_url, devices=2, accounts=1, minutes=0.02, offline=0.0, faults=frozenset())
    async with run.enrolled(calm) as fleet:
        await run.live(fleet, calm)
        assert await run.settle(fleet) == ()
        one, other = fleet.accounts[0]

        # A device lost a register behind its own sum, which still says that it is there: only the comparison tells.
        key, registers = next(iter(one.replica.answered.items()))
        path = next(iter(registers))
        del registers[path]
        found = await run.settle(fleet)
        assert any(f"{key.collection}/{key.id}/{path}" in line for line in found), found

        # A user remembers a document that no server has.
        made = next(iter(one.settled().done.made | other.settled().done.made))
        for member in (one, other):
            member.replica._answered.registers.pop(made)
        found = await run.settle(fleet)
        assert any(f"{made.id} was made here and is lost" in line for line in found), found

        # Started again, both notice what their stores lack, and mend it. That it was lacking is a defect all the same.
        for member in (one, other):
            member._restart()
        [defect] = await run.settle(fleet)
        assert defect.endswith(" repairs, though no store was corrupted")

        # A queue does not drain.
        await one._transport._inner.aclose()
        one._transport._inner = httpx.MockTransport(lambda _: httpx.Response(503, headers={"retry-after": "1"}))
        one._edit()
        found = await run.settle(fleet, within_s=0.5)
        assert found[0] == "The queues did not drain in 0.5 s."
        assert any("1 changes are still in the queue" in line for line in found)


def test_a_url_without_an_api_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(plan(f"http://127.0.0.1:{free_port()}")) == 1
    assert "No API answers at" in capsys.readouterr().out
