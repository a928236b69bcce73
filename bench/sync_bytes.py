"""Bytes over the wire for each workout, up and down, in every form of body that the gateway takes and gives."""

import random

import bson
import httpx
import uvloop
from pymongo import AsyncMongoClient
from rich.console import Console

from bench import servers, workload
from bench.device import Device, Form, another_device, signed_up
from bench.servers import Servers
from bench.tables import table
from bench.workload import Fields
from fitness_api.content_codings import CODINGS
from sync.records_mongo import Record
from sync.store_mongo import RECORDS

BATCH = 100  # workouts a body, of requests and of pages
BODIES = 10
FORMS = [Form("json"), *(Form("json", coding) for coding in CODINGS)]
FORMS += [Form("msgpack"), *(Form("msgpack", coding) for coding in CODINGS)]

Work = list[list[tuple[str, Fields]]]


def run(console: Console, *, quick: bool) -> None:
    uvloop.run(_measure(console, bodies=BODIES // 5 if quick else BODIES))


async def _measure(console: Console, *, bodies: int) -> None:
    dice = random.Random(workload.SEED)
    created = [
        [(name, workload.told_workout(dice)) for name in workload.workout_ids(dice, BATCH)] for _ in range(bodies)
    ]
    edited = [[(name, workload.edit(dice, fields)) for name, fields in batch] for batch in created]
    shown = table(
        f"Bytes a workout, {bodies * BATCH:,} in bodies of {BATCH}",
        "body", "created, up", "down", "edited, up", "down",
    )  # fmt: skip
    stored: list[str] = []
    async with servers.running() as running:
        for form in FORMS:
            async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
                first = await signed_up(http, running.gateway.urls[0])
                writer, reader = Device(first, form), Device(await another_device(http, first), form)
            await reader.pull()
            sizes = []
            for work in (created, edited):
                sizes += [await _sent(writer, work), await _received(reader, bodies)]
                if form is FORMS[0]:
                    stored += ["", f"{await _stored_bytes(running):,.0f}"]
            shown.add_row(str(form), *(f"{size:,.0f}" for size in sizes))
            writer.close()
            reader.close()
    shown.add_section()
    shown.add_row("stored, BSON", *stored)
    console.print(shown)


async def _sent(writer: Device, work: Work) -> float:
    before = writer.sent_bytes
    for batch in work:
        (await writer.round_trip(writer.encoded(batch))).all_applied(BATCH)
    return (writer.sent_bytes - before) / BATCH / len(work)


async def _received(reader: Device, bodies: int) -> float:
    before = reader.received_bytes
    for number in range(bodies):
        answer = await reader.round_trip(limit=BATCH)
        if len(answer.documents) != BATCH or answer.more != (number < bodies - 1):
            raise AssertionError(f"{len(answer.documents)} documents in page {number + 1}")
    return (reader.received_bytes - before) / BATCH / bodies


async def _stored_bytes(running: Servers) -> float:
    """Of the one account that there is yet."""
    async with AsyncMongoClient[Record](running.mongo_url) as client:
        found = await client[servers.DATABASE][RECORDS].find({"collection": "workouts"}).to_list()
    return sum(len(bson.encode(record)) for record in found) / len(found)
