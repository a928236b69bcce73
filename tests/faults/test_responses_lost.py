"""Connections break while a request goes up, while it is answered, and while the answer comes down.

The device cannot tell which it was, and sends the request again, often while the first one is still being served.
"""

import asyncio
from pathlib import Path
from typing import Any, get_args

from tests.faults import relay
from tests.faults.crowd import Crowd
from tests.faults.history import problems
from tests.faults.relay import relaying
from tests.faults.servers import gateways, one_mongod

# Of the pieces that pass; a round trip is some three of them.
ODDS = 0.1
BROKEN_S = 8


async def test_nothing_is_lost_or_done_twice(tmp_path: Path, redis_url: str, record_property: Any) -> None:
    async with (
        one_mongod(tmp_path) as (_, mongo_url),
        gateways(tmp_path, 2, mongo_url, redis_url) as (one, other),
        relaying(one.port, seed=1) as to_one,
        relaying(other.port, seed=2) as to_other,
        Crowd([to_one.url, to_other.url], seed=3) as crowd,
    ):
        await crowd.sign_up(accounts=3, devices=3)
        async with crowd.at_work(), crowd.bitten():
            to_one.odds = to_other.odds = ODDS
            await asyncio.sleep(BROKEN_S)
            to_one.odds = to_other.odds = 0
        histories = await crowd.at_rest(mongo_url)
        cuts = to_one.cuts + to_other.cuts
        crowd.record(record_property)
        record_property("cuts", dict(cuts))
        for history in histories:
            assert problems(history) == []
        assert cuts.keys() == set(get_args(relay.Cut))
