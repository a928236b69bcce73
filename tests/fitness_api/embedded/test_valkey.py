from pathlib import Path

import pytest
from redis.asyncio import Redis

from fitness_api.embedded import valkey
from fitness_api.embedded.binaries import find_valkey
from fitness_api.embedded.data_directory import LOOPBACK, free_port
from fitness_api.embedded.supervisor import Supervisor


@pytest.mark.parametrize(("memory_gib", "expected_mib"), [(1, 256), (4, 512), (64, 1024)])
def test_its_memory_is_bounded(memory_gib: int, expected_mib: int) -> None:
    assert valkey.memory_mib(memory_gib * 2**30) == expected_mib


async def test_what_was_written_survives_a_restart_and_nothing_is_evicted(tmp_path: Path) -> None:
    data = tmp_path / "data with a space"
    data.mkdir()
    port = free_port()
    part = valkey.part(find_valkey(""), data=data, port=port, log=tmp_path / "log", memory_bytes=2**31)
    for there in (None, b"1", b"2"):
        async with Supervisor(report=lambda _: None) as supervisor:
            await supervisor.start(part)
            async with Redis.from_url(valkey.url(port)) as client:
                assert await client.get("count") == there
                await client.incr("count")
                config = await client.config_get("*")
    assert config["appendonly"] == "yes"
    assert config["appendfsync"] == "everysec"
    assert config["maxmemory-policy"] == "noeviction"
    assert config["save"] == ""
    assert config["bind"] == LOOPBACK
