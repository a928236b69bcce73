"""What a socket is told. How it ends, and how many there may be, is tested on real ones in test_routes_live."""

import asyncio
import time
from contextlib import ExitStack

import pytest

from fitness_api import live_sockets
from fitness_api.close_codes import CloseCode
from fitness_api.identity.access_tokens import Principal
from fitness_api.live_sockets import LiveSocket, LiveSockets
from sync.hints_redis import RedisHints


def principal(*, lasts_s: float) -> Principal:
    now_s = int(time.time())
    return Principal(
        user_id="u",
        session_id="s",
        client_id="app",
        scopes=frozenset({"sync"}),
        generation=1,
        expires_at_s=now_s + int(lasts_s),
        authenticated_at_s=now_s,
    )


async def is_quiet(socket: LiveSocket) -> bool:
    try:
        await asyncio.wait_for(socket.woken(), 0.05)
    except TimeoutError:
        return True
    return False


async def test_it_holds_one_hint_however_many_came() -> None:
    socket = LiveSocket(principal(lasts_s=600))
    for _ in range(100):
        socket.hint()
    await socket.woken()
    assert await is_quiet(socket)
    socket.hint()
    await socket.woken()
    assert socket.closing is None
    socket.cancel_timers()


async def test_the_first_hint_comes_by_itself_unless_another_was_first() -> None:
    assert live_sockets.FIRST_HINT_WITHIN_S < 5
    waiting, told = LiveSocket(principal(lasts_s=600)), LiveSocket(principal(lasts_s=600))
    told.hint()
    await told.woken()
    await waiting.woken()
    assert await is_quiet(told)
    for socket in (waiting, told):
        socket.cancel_timers()


async def test_the_first_reason_to_close_stands() -> None:
    socket = LiveSocket(principal(lasts_s=0))
    await socket.woken()
    socket.end(CloseCode.MALFORMED, "later")
    await socket.woken()
    assert socket.closing == (CloseCode.NOT_AUTHORISED, "token_expired")
    socket.cancel_timers()


async def test_a_newer_token_puts_off_the_end() -> None:
    socket = LiveSocket(principal(lasts_s=1))
    socket.renew(principal(lasts_s=600))
    socket.hint()
    await socket.woken()
    await asyncio.sleep(1.1)
    assert socket.closing is None
    socket.cancel_timers()


async def test_one_that_gave_way_and_ends_late_leaves_the_next_ones_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_sockets, "MAX_OF_ACCOUNT", 1)
    sockets = LiveSockets(RedisHints("redis://127.0.0.1:1/0"), None)  # type: ignore[arg-type]  # nobody's session is looked at
    mine = principal(lasts_s=600)
    with ExitStack() as late, ExitStack() as others:
        late.enter_context(sockets.admitted(mine))
        with sockets.admitted(mine):
            pass
        counted = others.enter_context(sockets.admitted(mine))
        late.close()
        with sockets.admitted(mine):
            assert counted.closing is not None
            assert counted.closing.code == CloseCode.BEYOND_LIMITS
    assert len(sockets) == 0
