import asyncio
import sys
from pathlib import Path

import pytest

from fitness_api.embedded.errors import ChildDied, NotReady
from fitness_api.embedded.supervisor import LAST_LINES, Part, Supervisor

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"


def part(
    tmp_path: Path, name: str, code: str = SLEEP, *, ready_within_s: float = 30, stop_within_s: float = 30
) -> Part:
    log = tmp_path / f"{name}.log"

    async def ready() -> None:
        while not log.exists() or "up" not in log.read_text():
            await asyncio.sleep(0.01)

    return Part(
        name=name,
        argv=[sys.executable, "-c", code],
        environ={},
        log=log,
        ready=ready,
        ready_within_s=ready_within_s,
        stop_within_s=stop_within_s,
    )


async def test_parts_stop_in_reverse_order(tmp_path: Path) -> None:
    said: list[str] = []
    async with Supervisor(report=said.append) as supervisor:
        for name in ("database", "cache", "gateway"):
            await supervisor.start(part(tmp_path, name))
    assert [line.split(" (")[0] for line in said] == ["gateway stopped", "cache stopped", "database stopped"]


async def test_a_part_that_dies_while_it_starts_is_shown_with_its_last_words(tmp_path: Path) -> None:
    code = "import sys; [print('line', i, flush=True) for i in range(50)]; sys.exit('no such option')"
    async with Supervisor(report=lambda _: None) as supervisor:
        with pytest.raises(ChildDied, match=r"cache ended by itself \(exit status 1\)") as died:
            await supervisor.start(part(tmp_path, "cache", code))
    assert len(died.value.last_lines) == LAST_LINES
    assert "no such option" in died.value.last_lines


async def test_a_part_that_never_gets_ready_is_given_up_and_stopped(tmp_path: Path) -> None:
    said: list[str] = []
    async with Supervisor(report=said.append) as supervisor:
        with pytest.raises(NotReady, match=r"cache was not ready within 0\.2 s"):
            await supervisor.start(part(tmp_path, "cache", "import time; time.sleep(600)", ready_within_s=0.2))
    assert [line.split()[0] for line in said] == ["cache"]


async def test_a_fault_of_the_readiness_check_is_not_hidden(tmp_path: Path) -> None:
    async def ready() -> None:
        raise ZeroDivisionError

    wrong = Part(
        **{field: getattr(part(tmp_path, "cache"), field) for field in Part.__dataclass_fields__} | {"ready": ready}
    )
    async with Supervisor(report=lambda _: None) as supervisor:
        with pytest.raises(ZeroDivisionError):
            await supervisor.start(wrong)


async def test_the_first_death_ends_the_watch(tmp_path: Path) -> None:
    brief = "print('up', flush=True); import time; time.sleep(0.2); raise SystemExit('out of memory')"
    said: list[str] = []
    async with Supervisor(report=said.append) as supervisor:
        await supervisor.start(part(tmp_path, "database"))
        await supervisor.start(part(tmp_path, "cache", brief))
        with pytest.raises(ChildDied, match="cache ended") as died:
            await supervisor.watch()
        assert died.value.last_lines[-1] == "out of memory"
    assert [line.split()[0] for line in said] == ["database"]


async def test_a_cancelled_watch_leaves_the_children_to_be_stopped(tmp_path: Path) -> None:
    said: list[str] = []
    async with Supervisor(report=said.append) as supervisor:
        await supervisor.start(part(tmp_path, "database"))
        watching = asyncio.create_task(supervisor.watch())
        await asyncio.sleep(0)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
        assert said == []
    assert len(said) == 1


async def test_hurry_kills_what_does_not_listen(tmp_path: Path) -> None:
    said: list[str] = []
    async with Supervisor(report=said.append) as supervisor:
        for name in ("database", "gateway"):
            await supervisor.start(part(tmp_path, name, DEAF, stop_within_s=3600))
        asyncio.get_running_loop().call_later(0.1, supervisor.hurry)
    assert [line.split(" (")[0] for line in said] == ["gateway killed", "database killed"]
