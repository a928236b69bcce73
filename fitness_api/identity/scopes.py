"""What tokens may allow, and who our own clients are."""

from typing import Final

FIRST_PARTY: Final = "app"  # the client id of our own apps
PAGES: Final = "pages"  # a login on our own pages: it allows nothing by itself

USER_SCOPES: Final = (
    "sync",
    "workouts:read",
    "workouts:write",
    "live:publish",
    "live:watch",
    "notifications",
    "account",
)
# What belongs to no user: granted to a client itself, or to an account by hand.
SERVICE_SCOPES: Final = ("analytics:read", "admin")
