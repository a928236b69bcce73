"""Imports and tracks over HTTP."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from fitness_api.workouts import decoder
from sync.tracks import MAX_SAMPLES
from tests.fitness_api.client import Json, bearer, installation, registered
from tests.fitness_api.workouts.recordings import MULTISPORT, RIDE, RIDE_WITH_PAUSE, File, header, recorded

FIT = {"Content-Type": "application/vnd.ant.fit"}


@pytest.fixture
async def ada(api: httpx.AsyncClient) -> dict[str, str]:
    return bearer(await registered(api))


async def imported(api: httpx.AsyncClient, who: dict[str, str], body: bytes, **headers: str) -> httpx.Response:
    return await api.post("/v1/imports", content=body, headers={**who, **FIT, **headers})


def chunk(*values: Any, start: str = "2026-05-01T06:30:00.000Z") -> Json:
    return {"start": start, "offsets_ms": [1000 * index for index in range(len(values))], "values": list(values)}


async def test_a_ride_goes_in_and_its_heart_rates_come_out(api: httpx.AsyncClient, ada: dict[str, str]) -> None:
    answer = await imported(api, ada, recorded(RIDE))
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made.keys() == {"import_id", "workouts", "warnings"}
    (workout_id,) = made["workouts"]
    whole = (await api.get(f"/v1/workouts/{workout_id}/tracks?streams=heart_rate", headers=ada)).json()
    track = whole["streams"]["heart_rate"]
    assert (track["start"], track["samples"]) == ("2019-09-20T14:10:03.000Z", 8357)
    assert (len(track["offsets_ms"]), sum(track["values"])) == (8357, 1_376_485)
    few = await api.get(f"/v1/workouts/{workout_id}/tracks?streams=heart_rate,position&points=500", headers=ada)
    shown = few.json()["streams"]
    assert shown.keys() == {"heart_rate", "position"}
    assert 400 < len(shown["heart_rate"]["values"]) <= 500
    assert (min(shown["heart_rate"]["values"]), max(shown["heart_rate"]["values"])) == (min(track["values"]), 190)
    assert shown["position"]["values"][0] == [50.3925681, 5.900304]
    unchanged = await api.get(few.request.url, headers={**ada, "If-None-Match": few.headers["etag"]})
    assert unchanged.status_code == 304


async def test_the_documents_reach_a_device_by_sync(api: httpx.AsyncClient, ada: dict[str, str]) -> None:
    workouts = (await imported(api, ada, recorded(MULTISPORT))).json()["workouts"]
    device_id = (await api.post("/v1/devices", json=installation(), headers=ada)).json()["device_id"]
    synced = (await api.post("/v1/sync", json={"device_id": device_id}, headers=ada)).json()
    assert {document["id"] for document in synced["documents"]} == set(workouts)


@pytest.mark.parametrize("packed", ["file", "content-encoding", "both"])
async def test_a_known_file_is_200_however_it_is_packed(
    api: httpx.AsyncClient, ada: dict[str, str], packed: str
) -> None:
    file = recorded(RIDE_WITH_PAUSE)
    first = await imported(api, ada, file)
    body = gzip.compress(file) if packed != "content-encoding" else file
    again = (
        await imported(api, ada, body)
        if packed == "file"
        else await imported(api, ada, gzip.compress(body), **{"Content-Encoding": "gzip"})
    )
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()


async def test_the_same_file_at_once_is_created_once(api: httpx.AsyncClient, ada: dict[str, str]) -> None:
    answers = await asyncio.gather(*(imported(api, ada, recorded(MULTISPORT)) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len({answer.text for answer in answers}) == 1


async def test_the_original_comes_back_to_the_byte(api: httpx.AsyncClient, ada: dict[str, str]) -> None:
    file = recorded(RIDE_WITH_PAUSE)
    import_id = (await imported(api, ada, gzip.compress(file))).json()["import_id"]
    back = await api.get(f"/v1/imports/{import_id}/file", headers=ada)
    assert (back.status_code, back.content) == (200, file)
    assert back.headers["content-type"] == "application/vnd.ant.fit"
    assert int(back.headers["content-length"]) == len(file)
    unchanged = await api.get(f"/v1/imports/{import_id}/file", headers={**ada, "If-None-Match": back.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


async def test_what_belongs_to_others_is_not_found(api: httpx.AsyncClient, ada: dict[str, str]) -> None:
    made = (await imported(api, ada, recorded(MULTISPORT))).json()
    bob = bearer(await registered(api, "bob@example.org"))
    for path in (f"/v1/imports/{made['import_id']}/file", f"/v1/workouts/{made['workouts'][0]}/tracks"):
        assert (await api.get(path, headers=ada)).status_code == 200
        refused = await api.get(path, headers=bob)
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert (await api.get(f"/v1/workouts/{uuid4()}/tracks", headers=ada)).status_code == 404
    assert (await api.get("/v1/workouts/one/tracks", headers=ada)).status_code == 404


async def test_a_workout_without_tracks_has_none(api: httpx.AsyncClient, ada: dict[str, str]) -> None:
    device_id = (await api.post("/v1/devices", json=installation(), headers=ada)).json()["device_id"]
    workout_id = str(uuid4())
    change = {
        "id": str(uuid4()),
        "collection": "workouts",
        "doc": workout_id,
        "stamp": "0000000000001001",
        "set": {"rpe": 7},
    }
    await api.post("/v1/sync", json={"device_id": device_id, "changes": [change]}, headers=ada)
    answer = await api.get(f"/v1/workouts/{workout_id}/tracks", headers=ada)
    assert (answer.status_code, answer.json()) == (200, {"streams": {}})


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "format_unknown"),
        (b"<html></html>", 422, "format_unknown"),
        (b"<gpx></gpx>", 422, "file_unreadable"),
        (b"\x1f\x8b" + bytes(40), 422, "file_damaged"),
        (recorded(RIDE)[:60], 422, "file_damaged"),
        (header(data_bytes=2**32 - 1) + bytes(2), 422, "file_damaged"),
        (File().close(), 422, "file_unreadable"),
        (gzip.compress(bytes(65 * 1024 * 1024)), 413, "body_too_large"),
        (header(data_bytes=300_000) + bytes([0x40, 0, 0, 20, 0, 0]) + bytes(300_000), 422, "file_too_complex"),
    ],
    ids=["nothing", "html", "gpx", "no gzip", "cut", "huge size", "no activity", "bomb", "tiny records"],
)
async def test_a_file_that_cannot_be_read_is_refused(
    api: httpx.AsyncClient, ada: dict[str, str], body: bytes, status: int, code: str
) -> None:
    refused = await imported(api, ada, body)
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert refused.headers["content-type"] == "application/problem+json"


async def test_a_bomb_in_the_content_encoding_is_refused(api: httpx.AsyncClient, ada: dict[str, str]) -> None:
    bomb = gzip.compress(bytes(65 * 1024 * 1024))
    refused = await imported(api, ada, bomb, **{"Content-Encoding": "gzip"})
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")


async def test_a_damaged_file_gives_its_readable_part(api: httpx.AsyncClient, ada: dict[str, str]) -> None:
    answer = await imported(api, ada, recorded(RIDE)[:100_000])
    assert answer.status_code == 201
    assert any("damaged" in warning for warning in answer.json()["warnings"])
    tracks = await api.get(f"/v1/workouts/{answer.json()['workouts'][0]}/tracks?streams=heart_rate", headers=ada)
    assert tracks.json()["streams"]["heart_rate"]["samples"] > 2000


async def test_a_busy_decoder_says_when_to_come_again(
    api: httpx.AsyncClient, ada: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "WALL_CLOCK_S", 20)
    answers = await asyncio.gather(*(imported(api, ada, recorded(RIDE_WITH_PAUSE)) for _ in range(14)))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert {answer.status_code for answer in answers} == {200, 201, 503}
    assert all(answer.json()["code"] == "decoder_busy" and int(answer.headers["retry-after"]) > 0 for answer in refused)


async def test_files_that_come_at_once_have_one_bound(
    api: httpx.AsyncClient, ada: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = recorded(RIDE_WITH_PAUSE)
    monkeypatch.setattr(decoder, "MAX_HELD_BYTES", len(file) * 3 // 2)
    sent = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield file[:-1]
        await sent.wait()
        yield file[-1:]

    async with asyncio.TaskGroup() as group:
        first = group.create_task(api.post("/v1/imports", content=slowly(), headers={**ada, **FIT}))
        await asyncio.sleep(0.2)
        refused = await imported(api, ada, file)
        sent.set()
    assert (refused.status_code, refused.json()["code"], refused.headers["Retry-After"]) == (503, "decoder_busy", "5")
    assert first.result().status_code == 201
    assert (await imported(api, ada, file)).status_code == 200


async def test_a_chunk_ends_before_the_year_10000(api: httpx.AsyncClient, ada: dict[str, str]) -> None:
    path = f"/v1/workouts/{uuid4()}/tracks"
    late = {"start": "9999-12-31T23:59:59.999Z", "offsets_ms": [1], "values": [1]}
    refused = await api.put(f"{path}/power/{uuid4()}", json=late, headers=ada)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/offsets_ms/0")
    assert (await api.put(f"{path}/power/{uuid4()}", json={**late, "offsets_ms": [0]}, headers=ada)).status_code == 201
    assert (await api.get(path, headers=ada)).status_code == 200


async def test_other_bodies_are_not_taken(api: httpx.AsyncClient, ada: dict[str, str]) -> None:
    refused = await imported(api, ada, b"{}", **{"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_media_type")


async def test_chunks_go_up_once(api: httpx.AsyncClient, ada: dict[str, str]) -> None:
    workout_id, chunk_id = uuid4(), uuid4()
    path = f"/v1/workouts/{workout_id}/tracks/power/{chunk_id}"
    first = await api.put(path, json=chunk(200, 201.5, None), headers=ada)
    assert (first.status_code, first.json()) == (201, {"status": "stored"})
    again = await api.put(path, json=chunk(200, 201.5, None), headers=ada)
    assert (again.status_code, again.json()) == (200, {"status": "known"})
    packed = {**ada, "Content-Type": "application/msgpack", "Accept": "application/json"}
    body = msgspec.msgpack.encode(chunk(200.0, 201.5, None, start="2026-05-01T08:30:00+02:00"))
    assert (await api.put(path, content=body, headers=packed)).status_code == 200
    other = await api.put(path, json=chunk(200, 201.5, 0), headers=ada)
    assert (other.status_code, other.json()["code"]) == (409, "track_conflict")
    shown = (await api.get(f"/v1/workouts/{workout_id}/tracks", headers=ada)).json()["streams"]
    assert shown == {"power": {**chunk(200, 201.5, None), "samples": 3, "chunks": [str(chunk_id)]}}


async def test_every_stream_comes_back_as_sent(api: httpx.AsyncClient, ada: dict[str, str]) -> None:
    workout_id = uuid4()
    sent: dict[str, list[Any]] = {
        "heart_rate": [141, None, 142], "rr": [812, 801.7, 799], "position": [[50.1, 6], None, [-90, 180.0]],
        "altitude": [-20.2, 0, 8848.86], "speed": [0, 3.25, 1e-3], "cadence": [0, 83.5, 166], "power": [0, 250, 1e3],
        "temperature": [-5, 0.5, 21],
    }  # fmt: skip
    for stream, values in sent.items():
        put = await api.put(f"/v1/workouts/{workout_id}/tracks/{stream}/{uuid4()}", json=chunk(*values), headers=ada)
        assert put.status_code == 201, put.text
    shown = (await api.get(f"/v1/workouts/{workout_id}/tracks", headers=ada)).json()["streams"]
    assert repr({stream: shown[stream]["values"] for stream in sent}) == repr(sent)


async def test_chunks_of_a_stream_come_back_joined(api: httpx.AsyncClient, ada: dict[str, str]) -> None:
    workout_id = uuid4()
    for start, values in (("2026-05-01T06:31:00.000Z", [3, 4]), ("2026-05-01T06:30:00.000Z", [1, 2])):
        path = f"/v1/workouts/{workout_id}/tracks/cadence/{uuid4()}"
        assert (await api.put(path, json=chunk(*values, start=start), headers=ada)).status_code == 201
    track = (await api.get(f"/v1/workouts/{workout_id}/tracks", headers=ada)).json()["streams"]["cadence"]
    assert (track["start"], track["offsets_ms"]) == ("2026-05-01T06:30:00.000Z", [0, 1000, 60_000, 61_000])
    assert (track["values"], track["samples"], len(track["chunks"])) == ([1, 2, 3, 4], 4, 2)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({**chunk(1, 2), "start": "2026-05-01T06:30:00"}, "/start"),
        ({**chunk(1, 2), "start": "2026-05-01T06:30:00.0001Z"}, "/start"),
        ({**chunk(1, 2), "start": "1969-05-01T06:30:00Z"}, "/start"),
        ({**chunk(1, 2), "start": 5}, "/start"),
        ({**chunk(1, 2), "offsets_ms": [0]}, "/offsets_ms"),
        ({**chunk(1, 2), "offsets_ms": [5, 4]}, "/offsets_ms/1"),
        ({**chunk(1, 2), "offsets_ms": [0, 1.5]}, "/offsets_ms/1"),
        (chunk(), "/offsets_ms"),
        (chunk(*[1] * (MAX_SAMPLES + 1)), "/offsets_ms"),
        (chunk(1, "2"), "/values/1"),
        (chunk(1, True), "/values/1"),
        (chunk(1, [1, 2]), "/values/1"),
        ({**chunk(1), "unit": "W"}, "/unit"),
    ],
)
async def test_a_wrong_chunk_is_told_where(
    api: httpx.AsyncClient, ada: dict[str, str], body: Json, pointer: str
) -> None:
    refused = await api.put(f"/v1/workouts/{uuid4()}/tracks/power/{uuid4()}", json=body, headers=ada)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_body")
    assert refused.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("path", ["mood/{id}", "power/one", "power/{upper}"])
async def test_there_is_nothing_under_a_wrong_name(api: httpx.AsyncClient, ada: dict[str, str], path: str) -> None:
    named = path.format(id=uuid4(), upper=str(uuid4()).upper())
    answer = await api.put(f"/v1/workouts/{uuid4()}/tracks/{named}", json=chunk(1), headers=ada)
    assert answer.status_code == 404


@pytest.mark.parametrize("query", ["streams=mood", "streams=", "streams=power,,rr", "points=3", "points=-5", "points=many", "points=1e3", "points=100001", "points="])  # fmt: skip
async def test_a_wrong_question_is_told(api: httpx.AsyncClient, ada: dict[str, str], query: str) -> None:
    refused = await api.get(f"/v1/workouts/{uuid4()}/tracks?{query}", headers=ada)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_body")


async def test_without_a_token_nothing_is_read(api: httpx.AsyncClient) -> None:
    assert (await imported(api, {}, recorded(RIDE_WITH_PAUSE))).status_code == 401
    assert (await api.get(f"/v1/workouts/{uuid4()}/tracks")).status_code == 401
