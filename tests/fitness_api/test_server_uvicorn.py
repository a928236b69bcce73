"""`fitness-api serve` as a process: a signal sends its clients away before it ends."""

import os
import resource
import signal
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx
from pymongo.asynchronous.database import AsyncDatabase
from websockets.asyncio.client import connect

import fitness_api
from fitness_api.embedded.data_directory import free_port
from fitness_api.server_uvicorn import MAX_DESCRIPTORS, allow_many_connections
from tests.fitness_api.client import bearer, registered
from tests.fitness_api.gateway import closed


async def test_a_signal_ends_it_after_its_clients(
    database: AsyncDatabase[dict[str, Any]], mongo_url: str, redis_url: str
) -> None:
    port = free_port()
    settings = {
        "FITNESS_MONGO_URL": mongo_url,
        "FITNESS_REDIS_URL": redis_url,
        "FITNESS_MONGO_DATABASE": database.name,
        "FITNESS_MASTER_KEY": b64encode(bytes(32)).decode(),
        "FITNESS_PORT": str(port),
    }
    bare = {name: value for name, value in os.environ.items() if not name.startswith("FITNESS_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "fitness_api", "serve"],
        env=bare | settings,
        cwd=Path(fitness_api.__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        transport = httpx.AsyncHTTPTransport(retries=8)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", transport=transport, timeout=30) as api:
            pair = await registered(api)
        address = f"ws://127.0.0.1:{port}/v1/sync/live?secret=x"
        async with connect(address, additional_headers=bearer(pair), proxy=None) as client:
            assert await client.recv() == '{"type":"changed"}'
            process.send_signal(signal.SIGTERM)
            code, reason = await closed(client)
            assert code == 4503
            assert reason is not None
            assert reason.startswith("after_ms=")
        written, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "secret" not in written
    assert '"WEBSOCKET"' in written
    assert "Traceback" not in written


def test_descriptors_are_raised_as_far_as_may_be() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        allow_many_connections()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert hard == before[1]
        assert soft == (MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(MAX_DESCRIPTORS, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
