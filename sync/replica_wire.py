"""A device's side of the wire types: changes as they go up and are handed over, registers and instants as they come down."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from sync import clock, values
from sync.clock import ZERO, Stamp
from sync.document import Key
from sync.replica_state import Register, Unsent


def change_to_wire(change: Unsent) -> dict[str, Any]:
    return {
        "id": change.id,
        "collection": change.key.collection,
        "doc": change.key.id,
        "stamp": clock.to_wire(change.stamp),
        **({} if change.base is None else {"base": change.base}),
        "set": {path: values.to_python(value) for path, value in change.values.items()},
    }


def change_from_wire(sent: Mapping[str, Any], *, is_carried: bool = False) -> Unsent:
    stored = {path: values.from_wire(value) for path, value in sent["set"].items()}
    key = Key(sent["collection"], sent["doc"])
    return Unsent(sent["id"], key, stamp_from_wire(sent["stamp"]), sent.get("base"), stored, is_carried)


def registers_from_wire(fields: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Register]]:
    """Give the registers of a document as it goes down: {stamp: {path: value}}."""
    for wire, group in fields.items():
        stamp = stamp_from_wire(wire)
        for path, value in group.items():
            yield path, Register(values.from_wire(value), stamp)


def stamp_from_wire(wire: object) -> Stamp:
    """Zero stands for an account's clock that nothing has moved yet."""
    return clock.from_wire(wire) or ZERO


def instant_ms(rfc3339: str) -> int:
    """Unix milliseconds."""
    return round(datetime.fromisoformat(rfc3339).timestamp() * 1000)


def derived_id(key: Key, stamp: Stamp) -> str:
    """A change id for a register group that is sent again: the same at every attempt, as change ids serve results only."""
    return str(uuid5(UUID(key.id), f"{key.collection}/{stamp:016x}"))
