"""Gateways die in the middle of batches, one after the other; devices go to another one, and to the successor on its port."""

from pathlib import Path
from typing import Any

from tests.faults.crowd import Crowd
from tests.faults.history import problems
from tests.faults.servers import gateways, one_mongod

KILLS = 8


async def test_nothing_is_lost_or_done_twice(tmp_path: Path, redis_url: str, record_property: Any) -> None:
    async with (
        one_mongod(tmp_path) as (_, mongo_url),
        gateways(tmp_path, 2, mongo_url, redis_url) as both,
        Crowd([gateway.url for gateway in both], seed=1) as crowd,
    ):
        await crowd.sign_up(accounts=3, devices=3)
        async with crowd.at_work():
            for n in range(KILLS):
                gateway = both[n % 2]
                await crowd.uploading(gateway.url)
                async with crowd.bitten():
                    await gateway.kill()
                    await gateway.start()
        histories = await crowd.at_rest(mongo_url)
        crowd.record(record_property)
        for history in histories:
            assert problems(history) == []
