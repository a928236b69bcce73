"""Identity, part by part: what telling who calls costs, a whole request of a known caller, and logins beside their hash."""

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from bench import identity_logins, identity_me, identity_stuffing, identity_tokens

PARTS: Mapping[str, Callable[..., None]] = {
    "tokens": identity_tokens.run,
    "me": identity_me.run,
    "logins": identity_logins.run,
    "stuffing": identity_stuffing.run,
}


def main(*, quick: bool, only: Sequence[str] = ()) -> None:
    console = Console(width=120)
    for part in only or PARTS:
        console.print(f"[bold]{part}")
        PARTS[part](console, quick=quick)
