"""What an app team writes by hand: a bare Starlette handler that merges fields, last writer wins, by update pipelines.

No login, no limits, no sequence, no delta, no results; one pipeline update a document, with a $cond for each field.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypedDict

from pymongo import AsyncMongoClient, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


class State(TypedDict):
    workouts: AsyncCollection[dict[str, Any]]


def merged(change: dict[str, Any]) -> UpdateOne:
    stamp = change["stamp"]
    stages: dict[str, Any] = {}
    for path, value in change["set"].items():
        newer = {"$gt": [stamp, {"$ifNull": [f"$stamps.{path}", ""]}]}
        stages[f"value.{path}"] = {"$cond": [newer, {"$literal": value}, f"$value.{path}"]}
        stages[f"stamps.{path}"] = {"$cond": [newer, stamp, f"$stamps.{path}"]}
    return UpdateOne({"_id": change["id"]}, [{"$set": stages}], upsert=True)


async def upload(request: Request[State]) -> JSONResponse:
    body = await request.json()
    result = await request.state["workouts"].bulk_write([merged(change) for change in body["changes"]], ordered=False)
    return JSONResponse({"changed": result.modified_count + result.upserted_count})


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[State]:
    url, database = os.environ["HANDWRITTEN_MONGO_URL"], os.environ["HANDWRITTEN_DATABASE"]
    async with AsyncMongoClient[dict[str, Any]](url, w="majority", journal=True) as client:
        yield {"workouts": client[database]["handwritten"]}


app = Starlette(routes=[Route("/upload", upload, methods=["POST"])], lifespan=lifespan)
