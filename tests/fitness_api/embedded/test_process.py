import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from fitness_api.embedded import process

CHECKOUT = Path(process.__file__).parents[2]

# Says when it is up, and takes its time, or all the time there is, to end.
OBEDIENT = "import time; print('up', flush=True); time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {OBEDIENT}"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


async def started(tmp_path: Path, code: str) -> process.Child:
    child = await process.start("server", python(code), log=tmp_path / "logs" / "server.log", environ={"A": "b"})
    while "up" not in child.last_lines(1) and child.running:
        await asyncio.sleep(0.01)
    return child


async def test_a_child_that_listens_stops_when_asked(tmp_path: Path) -> None:
    child = await started(tmp_path, OBEDIENT)
    assert await child.stop(within_s=30, hurry=asyncio.Event())
    assert not child.running
    assert await child.wait() == "killed by SIGTERM"


async def test_a_child_that_does_not_is_killed_after_the_bound(tmp_path: Path) -> None:
    child = await started(tmp_path, DEAF)
    assert not await child.stop(within_s=0.05, hurry=asyncio.Event())
    assert await child.wait() == "killed by SIGKILL"


async def test_hurry_cuts_the_bound_short(tmp_path: Path) -> None:
    child = await started(tmp_path, DEAF)
    hurry = asyncio.Event()
    hurry.set()
    assert not await child.stop(within_s=3600, hurry=hurry)


async def test_stopping_twice_is_as_stopping_once(tmp_path: Path) -> None:
    child = await started(tmp_path, OBEDIENT)
    await child.stop(within_s=30, hurry=asyncio.Event())
    assert await child.stop(within_s=0, hurry=asyncio.Event())


async def test_a_child_has_a_session_and_the_environment_given_and_no_input(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getsid(0) == os.getpid(), os.environ['A'], repr(sys.stdin.read()), 'HOME' in os.environ)"
    child = await started(tmp_path, code)
    assert await child.wait() == "exit status 0"
    assert child.last_lines(1) == ["True b '' False"]


async def test_a_program_that_is_not_there_says_so_in_the_log(tmp_path: Path) -> None:
    child = await process.start("server", [tmp_path / "none"], log=tmp_path / "log", environ={})
    assert await child.wait() == f"exit status {process.CANNOT_EXECUTE}"
    assert child.last_lines(5) == [f"{tmp_path / 'none'}: No such file or directory"]


async def test_the_log_is_continued_and_its_tail_is_bounded(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"before\n" * 100_000)
    child = await process.start("server", python("print('after')"), log=log, environ={})
    await child.wait()
    lines = child.last_lines(3)
    assert lines == ["before", "before", "after"]
    assert len(child.last_lines(1_000_000)) < process.TAIL_BYTES


async def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    """The parent is killed with SIGKILL, so nothing of ours can run at its end."""
    parent_code = f"""
import asyncio, os
from pathlib import Path
from fitness_api.embedded import process
async def main():
    child = await process.start("server", {python(DEAF)!r}, log=Path({str(tmp_path / "log")!r}), environ={{}})
    while "up" not in child.last_lines(1):
        await asyncio.sleep(0.01)
    print(child.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        *python(parent_code), stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()
    await _ends(child)


async def test_a_child_whose_parent_died_in_between_does_not_start(tmp_path: Path) -> None:
    """The shim is told a parent that is not its own, which is what it sees when its own died and init took it."""
    shim = await asyncio.create_subprocess_exec(
        *(sys.executable, process.__file__, "1", "--", *python(f"open({str(tmp_path / 'ran')!r}, 'w')")),
        stderr=asyncio.subprocess.PIPE,
    )
    _, error = await shim.communicate()
    assert shim.returncode == 1
    assert b"parent is gone" in error
    assert not (tmp_path / "ran").exists()


async def test_a_log_that_cannot_be_opened_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with pytest.raises(IsADirectoryError):
        await process.start("server", python(OBEDIENT), log=tmp_path / "log", environ={})


async def _ends(child: psutil.Process) -> None:
    give_up_at = time.monotonic() + 30
    with contextlib.suppress(psutil.NoSuchProcess):
        while child.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < give_up_at, f"{child} is an orphan"
            await asyncio.sleep(0.01)
