"""The least that Starlette does for an answer: one route, no login, the bytes ready."""

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_BODY = os.environ.get("BARE_BODY", "{}").encode()


async def me(_: Request) -> Response:
    return Response(_BODY, media_type="application/json")


app = Starlette(routes=[Route("/v1/me", me)])
