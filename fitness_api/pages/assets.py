"""The files that pages refer to, read once: their addresses hold a digest, so that a cache may keep them for ever."""

import hashlib
from functools import cache
from importlib.resources import files
from typing import Final

from msgspec import Struct

_MEDIA_TYPES: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}


class Asset(Struct, frozen=True):
    """url: where it is served, relative to the public URL."""

    name: str
    body: bytes
    media_type: str
    url: str


@cache
def all_of_them() -> dict[str, Asset]:
    """Return the package's style sheets and scripts, by name."""
    found = {}
    for file in files("fitness_api.pages").iterdir():
        media_type = _MEDIA_TYPES.get(file.name.rpartition(".")[2])
        if media_type is not None:
            body = file.read_bytes()
            digest = hashlib.sha256(body).hexdigest()[:16]
            found[file.name] = Asset(file.name, body, media_type, f"/pages/{file.name}?v={digest}")
    return found
