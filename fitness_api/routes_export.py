"""Everything that we hold of an account, as a file to take away."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fitness_api.bodies import rfc3339
from fitness_api.errors import ApiError
from fitness_api.identity.access_tokens import Principal
from fitness_api.identity.errors import IdentityError, StoreUnavailable
from fitness_api.operation import Media, Operation
from fitness_api.origins import origin_of
from fitness_api.resources import Resources
from sync.errors import SyncError

_ZIP_TYPE: Final = "application/zip"

_log = logging.getLogger("fitness_api.export")


async def export_me(request: Request[Resources], principal: Principal) -> Response:
    now_ms = time.time_ns() // 1_000_000
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="fitness-export-{rfc3339(now_ms)[:10]}.zip"',
    }
    if request.method == "HEAD":
        return Response(headers=headers, media_type=_ZIP_TYPE)
    await request.state["limits"].require("export", principal.user_id)
    accounts = request.state["accounts"]

    async def goes_on() -> bool:
        """Whether the session does: the access token expires long before a large archive is taken."""
        return await accounts.session(principal.user_id, principal.session_id) is not None

    pieces = request.state["exports"].of(principal.user_id, now_ms=now_ms, goes_on=goes_on)
    # The account and its documents: what refuses does so while a refusal can still be told.
    first = await anext(pieces)
    try:
        await request.state["audit"].record(
            principal.user_id, "exported", origin=origin_of(request), session_id=principal.session_id
        )
    except StoreUnavailable:
        await pieces.aclose()
        raise
    return _Stream(first, pieces, headers=headers, media_type=_ZIP_TYPE)


class _Stream(Response):
    """Ends its pieces as soon as the client is gone: Starlette's own leaves no time to those that have to let go of something."""

    def __init__(
        self, first: bytes, pieces: AsyncGenerator[bytes], *, headers: dict[str, str], media_type: str
    ) -> None:
        super().__init__(headers=headers, media_type=media_type)
        del self.headers["Content-Length"]
        self._first, self._pieces = first, pieces

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        async def hear_out() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        leaving = asyncio.create_task(hear_out())
        try:
            async with aclosing(self._pieces):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                await send({"type": "http.response.body", "body": self._first, "more_body": True})
                async for piece in self._pieces:
                    if leaving.done():
                        return
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (ApiError, IdentityError, SyncError) as error:
            # Without an end, at which the server closes the connection: what is sent of an answer cannot be taken back.
            _log.warning("an export was cut off: %s", error)
        finally:
            leaving.cancel()


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="GET",
        path="/v1/me/export",
        handler=export_me,
        tag="Account",
        summary="Everything that we hold of the account, as a zip",
        description=(
            "Documents of one moment, with the stamps of their registers, and what was refused or lost; tracks as lines of JSON and as "
            "GPX; the files that were imported, to the byte; the account, its sessions, devices and audit log. A README tells what is "
            "where, and a manifest the SHA-256 of each entry. It is streamed while it is made, so that its length is not known; what was "
            "cut off lacks the directory, and no reader takes it for the whole. One export of an account at a time, after a login of "
            "the last five minutes. It ends when its session does."
        ),
        login=True,
        scope="account",
        recent_login=True,
        answers={200: Media(types=(_ZIP_TYPE,), description="The archive.")},
        problems=("reauthentication_required", "export_in_progress", "unavailable"),
    ),
)
