"""The primary of three steps down, dies, and freezes, each under load; what it was, it joins again.

An acknowledged upload is on two of the three, so whichever is elected has it, and what one alone has was acknowledged to nobody.
One that wakes up after another was elected still takes itself for the primary, and must not be believed.
"""

import asyncio
import signal
from pathlib import Path
from typing import Any

from tests.faults.crowd import Crowd
from tests.faults.history import problems
from tests.faults.servers import ReplicaSet, gateways, replica_set, until_member

# How long a primary takes writes that are not replicated: much less than the time after which it steps down by itself.
ALONE_S = 0.5


async def steps_down(mongods: ReplicaSet, crowd: Crowd) -> None:
    await mongods.step_down()
    await crowd.is_served()


async def dies(mongods: ReplicaSet, crowd: Crowd) -> None:
    """With writes that nobody else has; when it comes back, it has to undo them."""
    old = await mongods.primary()
    others = [member for port, member in mongods.members.items() if port != old]
    for member in others:
        member.send(signal.SIGSTOP)
    await asyncio.sleep(ALONE_S)
    await mongods.members[old].kill()
    for member in others:
        member.send(signal.SIGCONT)
    await mongods.primary(other_than=old)
    await crowd.is_served()
    await mongods.members[old].start()
    await until_member(old)


async def freezes(mongods: ReplicaSet, crowd: Crowd) -> None:
    old = await mongods.primary()
    mongods.members[old].send(signal.SIGSTOP)
    await mongods.primary(other_than=old)
    # At once: what it was asked before it froze it now answers, or tries to.
    mongods.members[old].send(signal.SIGCONT)
    await crowd.is_served()
    await until_member(old)


async def test_nothing_is_lost_or_done_twice(tmp_path: Path, redis_url: str, record_property: Any) -> None:
    async with (
        replica_set(tmp_path) as mongods,
        gateways(tmp_path, 2, mongods.url, redis_url) as both,
        Crowd([gateway.url for gateway in both], seed=4) as crowd,
    ):
        await crowd.sign_up(accounts=2, devices=3)
        async with crowd.at_work():
            for fault in (steps_down, dies, freezes):
                await crowd.uploading()
                async with crowd.bitten():
                    await fault(mongods, crowd)
                await crowd.is_served()
        histories = await crowd.at_rest(mongods.url)
        crowd.record(record_property)
        for history in histories:
            assert problems(history) == []
