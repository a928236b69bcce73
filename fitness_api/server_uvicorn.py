"""uvicorn as the gateway runs it: HTTP/1.1 and WebSockets, both bounded, one event loop."""

import resource
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from fitness_api.protocol_uvicorn import BoundedHttpProtocol
from fitness_api.websocket_uvicorn import BoundedWebSocketProtocol

# Open requests get this long when the process is asked to stop. Kubernetes kills after 30 s.
DRAIN_WITHIN_S: Final = 20
# Longer than the idle time of common load balancers (60 s): the side that is behind must not close first.
KEEP_ALIVE_S: Final = 75
# Connections that the kernel holds while the process is busy; Linux's own bound (net.core.somaxconn) is 4096.
BACKLOG: Final = 2048
# As many sockets as a process may hold, its requests, and what it has open itself.
MAX_DESCRIPTORS: Final = 65_536


def server_of(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=BoundedHttpProtocol,
        ws=BoundedWebSocketProtocol,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        # Whose word counts for a client's address is a setting of ours; uvicorn would take anybody's on this machine.
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_WITHIN_S,
    )
    return uvicorn.Server(config)


def allow_many_connections() -> None:
    """A process may have 1,024 descriptors by default, and may raise that itself, up to a bound that only root moves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(MAX_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
