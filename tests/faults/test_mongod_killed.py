"""The database dies in the middle of batches, and comes back with what it had."""

import asyncio
from pathlib import Path
from typing import Any

from tests.faults.crowd import Crowd
from tests.faults.history import problems
from tests.faults.servers import gateways, one_mongod

# How long it is away. A gateway waits 8 s for it; after that, devices are told to come again.
DOWN_S = (1, 2, 10)


async def test_nothing_is_lost_or_done_twice(tmp_path: Path, redis_url: str, record_property: Any) -> None:
    async with (
        one_mongod(tmp_path) as (mongod, mongo_url),
        gateways(tmp_path, 2, mongo_url, redis_url) as both,
        Crowd([gateway.url for gateway in both], seed=2) as crowd,
    ):
        await crowd.sign_up(accounts=3, devices=3)
        async with crowd.at_work():
            for down_s in DOWN_S:
                await crowd.uploading()
                async with crowd.bitten():
                    await mongod.kill()
                    await asyncio.sleep(down_s)
                    await mongod.start()
                    await crowd.is_served()
        histories = await crowd.at_rest(mongo_url)
        crowd.record(record_property)
        for history in histories:
            assert problems(history) == []
        assert crowd.failures["503"]
