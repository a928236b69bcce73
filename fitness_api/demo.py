"""`fitness-api demo`: a watch and a phone edit one ride while both are offline, and then meet through a running API.

A client like any other: everything goes over HTTP, and each device is a `sync.replica.Replica`.
"""

import secrets
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table

from fitness_api import synthetic_ride
from sync.document import Key
from sync.replica import Replica

_TIMEOUT_S: Final = 60
_WIDTH: Final = 110  # of the tables where the output is no terminal
_BETWEEN_EDITS_S: Final = 0.002  # stamps count milliseconds: what was done later is to be later
# What the tables show of a workout, in this order; everything else is merged all the same.
_FIELDS: Final = (
    "title",
    "notes",
    "rpe",
    "tags",
    "sets",
    "sport",
    "distance_m",
    "elapsed_time_s",
    "timer_time_s",
    "avg_hr_bpm",
    "laps",
    "tracks",
)
_STREAMS: Final = ("heart_rate", "position", "altitude", "speed", "cadence", "power")


class DemoFailed(Exception):
    """The API is not there, or answered what the demo cannot go on with; the message is for the terminal."""


@dataclass
class Exchange:
    who: str
    what: str
    sent_bytes: int
    received_bytes: int
    elapsed_ms: float


@dataclass
class Api:
    """One account's calls, each noted with its bytes (as they went over the wire) and milliseconds."""

    http: httpx.Client
    exchanges: list[Exchange] = field(default_factory=list)

    def call(self, who: str, what: str, method: str, path: str, **request: Any) -> Any:
        started = time.perf_counter()
        try:
            response = self.http.request(method, path, **request)
        except httpx.TransportError as error:
            raise DemoFailed(f"No API answers at {self.http.base_url} ({error}). Start it with scripts/up.") from None
        elapsed_ms = (time.perf_counter() - started) * 1000
        sent = int(response.request.headers.get("content-length", 0))
        self.exchanges.append(Exchange(who, what, sent, response.num_bytes_downloaded, elapsed_ms))
        if response.is_error:
            problem = response.json()
            raise DemoFailed(
                f"{what}: {response.status_code} {problem.get('code', '')}: {problem.get('detail') or problem.get('title')}"
            )
        return response.json()


@dataclass
class Device:
    name: str
    api: Api
    replica: Replica

    def edit(self, workout_id: str, given: Mapping[str, Any]) -> None:
        time.sleep(_BETWEEN_EDITS_S)
        now_ms = time.time_ns() // 1_000_000
        self.replica.edit("workouts", workout_id, given, change_id=str(uuid.uuid4()), now_ms=now_ms)

    def sync(self) -> None:
        """Until there is nothing left to say in either direction."""
        is_first = True
        while is_first or self.replica.wants_to_sync:
            is_first = False
            request = self.replica.request()
            what = f"sync: {len(request['changes'])} changes up"
            response = self.api.call(self.name, what, "POST", "/v1/sync", json=request)
            self.api.exchanges[-1].what += f", {len(response['documents'])} documents down"
            self.replica.receive(request, response)

    def shown(self, workout_id: str) -> dict[str, Any]:
        return self.replica.shown(Key("workouts", workout_id))


def main(url: str, recording: Path | None = None) -> int:
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    try:
        play(console, url, recording)
    except OSError as error:
        console.print(f"fitness-api demo: {error.filename}: {error.strerror}", style="red", markup=False)
        return 1
    except DemoFailed as error:
        console.print(f"fitness-api demo: {error}", style="red", markup=False)
        return 1
    return 0


def play(console: Console, url: str, recording: Path | None) -> None:
    """Raises DemoFailed, and OSError if the recording cannot be read."""
    if recording is None:
        fit = synthetic_ride.encode(started_at_ms=round(time.time() - 3 * 3600) * 1000)
        console.print(f"A synthetic ride, {len(fit):,} bytes of FIT (name a .fit file of your own to use it instead).")
    else:
        fit = recording.read_bytes()
        console.print(f"{recording.name}, {len(fit):,} bytes of FIT.")
    with httpx.Client(base_url=url, timeout=_TIMEOUT_S, trust_env=False) as http:
        api = Api(http)
        watch, phone = _sign_up(api)
        workout_id = _record(api, fit)
        watch.sync()
        phone.sync()
        _edit_offline(watch, phone, workout_id)
        before = {device.name: device.shown(workout_id) for device in (watch, phone)}
        phone.sync()
        watch.sync()
        phone.sync()
        after = {device.name: device.shown(workout_id) for device in (watch, phone)}
        tracks = api.call(
            "phone", "tracks", "GET", f"/v1/workouts/{workout_id}/tracks", params={"streams": ",".join(_STREAMS)}
        )
    console.print(_states(before, after))
    console.print(_tracks(tracks))
    console.print(_exchanges(api.exchanges))
    if after["watch"] != after["phone"]:
        raise DemoFailed("The devices differ.")
    console.print("Both devices hold the same ride, register by register; nothing was lost.", style="green")


def _sign_up(api: Api) -> tuple[Device, Device]:
    account = {
        "email": f"demo-{uuid.uuid4()}@example.com",
        "password": secrets.token_urlsafe(18),
        "display_name": "Demo",
    }
    pair = api.call("phone", "register an account", "POST", "/v1/auth/register", json=account)
    api.http.headers["authorization"] = f"Bearer {pair['access_token']}"
    devices = []
    for name, platform in (("watch", "watchos"), ("phone", "ios")):
        registration = {"installation_id": str(uuid.uuid4()), "platform": platform, "app_version": "1.0.0"}
        made = api.call(name, "register the device", "POST", "/v1/devices", json=registration)
        devices.append(Device(name, api, Replica(made["device_id"], made["replica"])))
    return devices[0], devices[1]


def _record(api: Api, fit: bytes) -> str:
    """The watch was offline all the ride; it hands in its file when it is back."""
    made = api.call(
        "watch", "import the FIT file", "POST", "/v1/imports",
        content=fit, headers={"content-type": "application/vnd.ant.fit"},
    )  # fmt: skip
    return str(made["workouts"][0])


def _edit_offline(watch: Device, phone: Device, workout_id: str) -> None:
    """In turns, as the afternoon went: both change the title and the effort, and of each the later one is to win."""
    squat, plank = str(uuid.uuid4()), str(uuid.uuid4())
    watch.edit(workout_id, {"title": "Ride", "rpe": 6, "tags/commute": True})
    phone.edit(workout_id, {"title": "Along the lake, home by the hills", "tags/lake": True})
    phone.edit(
        workout_id,
        {
            f"sets/{squat}/exercise": "goblet squat", f"sets/{squat}/reps": 12, f"sets/{squat}/weight_kg": 24,
            f"sets/{squat}/pos": "a0",
            f"sets/{plank}/exercise": "plank", f"sets/{plank}/duration_s": 60, f"sets/{plank}/pos": "a1",
        }
    )  # fmt: skip
    phone.edit(workout_id, {"rpe": 8})
    watch.edit(workout_id, {"rpe": 7, "notes": "Head wind after the bridge."})


def _states(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title="The ride on each device: offline, then after both synced")
    table.add_column("field", no_wrap=True)
    for heading in ("watch, offline", "phone, offline", "watch, synced", "phone, synced"):
        table.add_column(heading, overflow="fold")
    for name in _FIELDS:
        cells = [before["watch"], before["phone"], after["watch"], after["phone"]]
        shown = [_short(cell.get(name)) for cell in cells]
        differs = len(set(shown)) > 1
        table.add_row(name, *shown, style="bold" if differs else "dim")
    return table


def _short(value: Any) -> str:
    match value:
        case None:
            return "·"
        case [{"exercise": _}, *_]:
            return "\n".join(_set(one) for one in value)
        case [{"id": _}, *_]:
            return "1 lap" if len(value) == 1 else f"{len(value)} laps"
        case [str(), *rest] if len(rest) > 3:
            return f"{len(value)} chunks"
        case list():
            return ", ".join(map(str, value))
        case _:
            return str(value)


def _set(one: Mapping[str, Any]) -> str:
    amount = f"{one['reps']} x {one['weight_kg']} kg" if "reps" in one else f"{one['duration_s']} s"
    return f"{one['exercise']} {amount}"


def _tracks(tracks: Mapping[str, Any]) -> str:
    counts = {stream: len(samples["offsets_ms"]) for stream, samples in tracks["streams"].items()}
    return (
        "Tracks, as the phone reads them: "
        + ", ".join(f"{name} {count:,}" for name, count in counts.items())
        + " samples."
    )


def _exchanges(exchanges: Sequence[Exchange]) -> Table:
    table = Table(title="What went over the wire (bodies)")
    for heading in ("who", "what", "bytes up", "bytes down", "ms"):
        table.add_column(heading, justify="left" if heading in ("who", "what") else "right")
    for one in exchanges:
        table.add_row(one.who, one.what, f"{one.sent_bytes:,}", f"{one.received_bytes:,}", f"{one.elapsed_ms:.0f}")
    return table
