import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from fitness_api.identity.dpop import Asked
from fitness_api.identity.dpop_replays_redis import RedisReplays
from fitness_api.identity.errors import DpopNonceNeeded, DpopProofInvalid, StoreUnavailable
from fitness_api.identity.possession import Possession
from fitness_api.redis_guarded import GuardedRedis
from tests.fitness_api.identity.conftest import MASTER_KEY, Clock
from tests.fitness_api.identity.proofs import Key

URL = "https://api.test/v1/me"
TOKEN = "an.access.token"


@pytest.fixture
async def process(redis_url: str, clock: Clock) -> AsyncIterator[Callable[[], Possession]]:
    """Makes what one process of many would have, but for the connection."""
    redis = GuardedRedis(redis_url)
    yield lambda: Possession(RedisReplays(redis), master_key=MASTER_KEY, now_ms=clock)
    await redis.aclose()


def asked(*proofs: str) -> Asked:
    return Asked(method="GET", url=URL, proofs=proofs)


async def test_a_proof_serves_once_in_all_processes(process: Callable[[], Possession], clock: Clock) -> None:
    key = Key()
    proof = key.proof("GET", URL, at_s=clock.now_ms // 1000, access_token=TOKEN)
    answers = await asyncio.gather(
        *(process().of_request(asked(proof), TOKEN) for _ in range(20)), return_exceptions=True
    )
    assert answers.count(key.thumbprint) == 1
    assert sum(isinstance(answer, DpopProofInvalid) for answer in answers) == 19
    again = key.proof("GET", URL, at_s=clock.now_ms // 1000, access_token=TOKEN)
    assert await process().of_request(asked(again), TOKEN) == key.thumbprint


async def test_a_login_offers_its_key_with_a_nonce_of_any_process(
    process: Callable[[], Possession], clock: Clock
) -> None:
    key, here, there = Key(), process(), process()
    assert await here.of_login(asked()) is None
    with pytest.raises(DpopNonceNeeded) as needed:
        await here.of_login(asked(key.proof("GET", URL, at_s=clock.now_ms // 1000)))
    assert needed.value.nonce == there.nonce()
    with_nonce = key.proof("GET", URL, at_s=0, nonce=needed.value.nonce)
    assert await there.of_login(asked(with_nonce)) == key.thumbprint


async def test_a_proof_that_was_refused_is_not_used_up(process: Callable[[], Possession], clock: Clock) -> None:
    proof = Key().proof("GET", URL, at_s=clock.now_ms // 1000, access_token=TOKEN)
    with pytest.raises(DpopProofInvalid):
        await process().of_request(asked(proof), "another")
    assert await process().of_request(asked(proof), TOKEN)


async def test_without_redis_no_proof_is_accepted(clock: Clock) -> None:
    possession = Possession(RedisReplays(GuardedRedis("redis://127.0.0.1:9/0")), master_key=MASTER_KEY, now_ms=clock)
    proof = Key().proof("GET", URL, at_s=clock.now_ms // 1000, access_token=TOKEN)
    with pytest.raises(StoreUnavailable):
        await possession.of_request(asked(proof), TOKEN)
