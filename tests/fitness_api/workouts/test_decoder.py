"""Files through processes: a few at a time, none left behind."""

import asyncio
from pathlib import Path

import pytest

from fitness_api.workouts import decoder
from fitness_api.workouts.decoder import WAITING_PER_WORKER, Decoder
from fitness_api.workouts.errors import DecoderBusy, FileDamaged, FileTooComplex, FileUnreadable
from tests.fitness_api.workouts.recordings import MULTISPORT, RIDE, File, recorded


def children() -> set[int]:
    """Children of ours that run or were not reaped."""
    return {
        int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text("ascii").split()
    }


@pytest.fixture(autouse=True)
def no_process_is_left() -> object:
    before = children()
    yield
    assert children() <= before


async def test_a_file_becomes_a_recording() -> None:
    recording = await Decoder(workers=1).decode(recorded(MULTISPORT))
    assert [session.sport for session in recording.sessions] == ["run", "row"]


async def test_refusals_say_why() -> None:
    one = Decoder(workers=1)
    with pytest.raises(FileUnreadable):
        await one.decode(File().close())
    with pytest.raises(FileDamaged):
        await one.decode(recorded(RIDE)[:40])


async def test_a_process_that_fails_otherwise_is_logged_and_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(decoder, "_MODULE", "fitness_api.workouts.no_such_module")
    with pytest.raises(FileUnreadable):
        await Decoder(workers=1).decode(recorded(MULTISPORT))
    assert "no_such_module" in caplog.text


async def test_who_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "WALL_CLOCK_S", 0.01)
    with pytest.raises(FileTooComplex):
        await Decoder(workers=1).decode(recorded(RIDE))


async def test_a_cancelled_import_leaves_no_process_and_frees_its_place() -> None:
    one = Decoder(workers=1)
    before = children()
    task = asyncio.create_task(one.decode(recorded(RIDE)))
    while children() <= before:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() <= before
    assert len((await one.decode(recorded(MULTISPORT))).sessions) == 2


async def test_more_than_may_wait_are_told_to_come_again() -> None:
    one = Decoder(workers=1)
    places = 1 + WAITING_PER_WORKER
    before = children()
    tasks = [asyncio.create_task(one.decode(recorded(MULTISPORT))) for _ in range(places)]
    await asyncio.sleep(0)
    with pytest.raises(DecoderBusy) as refused:
        await one.decode(recorded(MULTISPORT))
    assert refused.value.retry_after_s > 0
    assert len(children() - before) <= 1
    assert [len(recording.sessions) for recording in await asyncio.gather(*tasks)] == [2] * places
    assert len((await one.decode(recorded(MULTISPORT))).sessions) == 2


async def test_the_process_is_given_none_of_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITNESS_MASTER_KEY", "secret")
    assert "secret" not in decoder._environment().values()
