"""The demo as a stranger runs it: a gateway process on a port, and the command beside it."""

import os
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fitness_api.embedded.data_directory import free_port
from tests.fitness_api.workouts.recordings import RIDE, recorded


@pytest.fixture
def gateway_url(
    database: AsyncDatabase[dict[str, Any]], mongo_url: str, redis_url: str, tmp_path: Path
) -> Iterator[str]:
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("FITNESS_")},
        "FITNESS_MONGO_URL": mongo_url,
        "FITNESS_REDIS_URL": redis_url,
        "FITNESS_MONGO_DATABASE": database.name,
        "FITNESS_MASTER_KEY": b64encode(bytes(32)).decode(),
        "FITNESS_PORT": str(port),
    }
    with (tmp_path / "gateway.log").open("wb") as log:
        command = [sys.executable, "-m", "fitness_api", "serve"]
        with subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process:
            url = f"http://127.0.0.1:{port}"
            _wait_for(url)
            yield url
            process.terminate()
            assert process.wait(30) == 0


def _wait_for(url: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{url}/healthz").close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("The gateway does not answer.")


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fitness_api", "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_real_ride_and_a_synthetic_one_arrive_on_the_second_device(gateway_url: str, tmp_path: Path) -> None:
    ride = tmp_path / "ride.fit"
    ride.write_bytes(recorded(RIDE))
    real = run_demo("--url", gateway_url, str(ride))
    assert real.returncode == 0, real.stdout + real.stderr
    assert "57567.24" in real.stdout
    assert "heart_rate 8,357" in real.stdout
    assert "nothing was lost" in real.stdout

    synthetic = run_demo("--url", gateway_url)
    assert synthetic.returncode == 0, synthetic.stdout + synthetic.stderr
    assert "2400.0" in synthetic.stdout  # timer time, without the pause
    assert "2475.0" in synthetic.stdout  # elapsed time, with it
    rpe = next(line for line in synthetic.stdout.splitlines() if " rpe " in line)
    assert [cell.strip() for cell in rpe.split("│")[1:-1]] == ["rpe", "7", "8", "7", "7"]

    unreadable = tmp_path / "notes.txt"
    unreadable.write_text("not a recording")
    refused = run_demo("--url", gateway_url, str(unreadable))
    assert refused.returncode == 1
    assert "format_unknown" in refused.stdout


@pytest.mark.parametrize("arguments", [("--url", "http://127.0.0.1:9"), ("no-such-file.fit",)])
def test_what_is_missing_is_told_in_a_line(arguments: tuple[str, ...]) -> None:
    failed = run_demo(*arguments)
    assert failed.returncode == 1
    assert "fitness-api demo: " in failed.stdout
    assert "Traceback" not in failed.stdout + failed.stderr
