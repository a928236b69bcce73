"""What must hold: at every answer, at every end of a run, and in the end."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sync import values
from tests.simulate.device import Device, Edit
from tests.simulate.flight import Flight
from tests.simulate.oracle import COLLECTIONS, DAY_MS, Expected, Key, Lost, State, Wrong, canonical, digest
from tests.simulate.server import Server, decoded

if TYPE_CHECKING:
    from tests.simulate.world import World


def check_answer(server: Server, flight: Flight, answer: Mapping[str, Any]) -> None:
    """Every change has the result that the oracle expects, and a page keeps to its limit."""
    for sent, result, expected in zip(flight.sent["changes"], answer["results"], flight.expected, strict=True):
        superseded = {path: (stamp, canonical(value)) for path, (stamp, value) in result.get("superseded", {}).items()}
        found = Expected(result["status"], result.get("stamp"), result.get("code"), superseded)
        if result["id"] != sent["id"] or found != expected:
            raise Wrong(f"{sent} is answered {found}; expected {expected}")
    if len(answer["documents"]) > flight.sent["limit"]:
        raise Wrong("the page is over its limit")


def check_cursor(server: Server, device: Device, answer: Mapping[str, Any]) -> None:
    """At the end of a run the answered part is the oracle's state at the cursor, and so are the digests."""
    presented = server.read_cursor(answer["cursor"])
    if presented is None:
        raise Wrong("the cursor given is foreign")
    collections = [name for place in presented.places for name in place.collections]
    wanted = device.replica.collections
    if set(collections) != {name for name in COLLECTIONS if wanted is None or name in wanted}:
        raise Wrong(f"the cursor is of {collections}")
    if not collections:
        return
    [seq] = {place.at for place in presented.places}
    if seq > server.oracle.seq or any(place.began != seq or place.below is not None for place in presented.places):
        raise Wrong(f"the run ends at {presented}")
    expected = server.oracle.at(seq, collections)
    for name in collections:
        if answer["digests"][name] != digest(expected, name):
            raise Wrong(f"the digest of {name} at {seq} is {answer['digests'][name]}, not {digest(expected, name)}")
    if set(answer["digests"]) != set(collections):
        raise Wrong(f"digests of {sorted(answer['digests'])} for {collections}")
    found = {key: registers for key, registers in device.state().items() if key[0] in collections}
    if found == expected:
        device.damaged.difference_update(collections)
        return
    sound = [name for name in collections if name not in device.damaged]
    if not _is_equal(found, expected, sound):
        raise Wrong(f"at {seq} {device} holds {_difference(found, expected)}")


def _is_equal(found: State, expected: State, collections: Sequence[str]) -> bool:
    return all(found.get(key) == expected.get(key) for key in {*found, *expected} if key[0] in collections)


def _difference(found: Mapping[Any, Any], expected: Mapping[Any, Any]) -> str:
    mine = {(key, path): register for key, registers in found.items() for path, register in registers.items()}
    theirs = {(key, path): register for key, registers in expected.items() for path, register in registers.items()}
    return "; ".join(
        f"{key[0]}/{key[1][-1]}/{path} = {mine.get((key, path))}, not {theirs.get((key, path))}"
        for key, path in sorted({*mine, *theirs})
        if mine.get((key, path)) != theirs.get((key, path))
    )


def check_total(server: Server, device: Device, key: Key, path: str, total: int) -> None:
    """A device knows what it counted itself, whatever happened to it."""
    life = device.life
    edits = [edit for edit in life.edits if edit.key == key and path in edit.given]
    if key in server.oracle.purged or life.is_cut or device.damaged or any(edit.status == "rejected" for edit in edits):
        return
    if total != sum(edit.increment for edit in edits):
        raise Wrong(f"{device} counts on from {total} at {path}, which is not what its user did")


def check_end(world: "World") -> None:
    """All is sent, all devices hold what the oracle does, and nothing that was acknowledged is lost."""
    server = world.server
    for device in world.devices:
        if device.replica.wants_to_sync or device.replica.wants_to_repair:
            raise Wrong(f"{device} is not content")
        presented = server.read_cursor(device.replica.cursor)
        if presented is None or any(place.at != server.oracle.seq for place in presented.places):
            raise Wrong(f"{device} is not at the end")
        if device.damaged & {name for place in presented.places for name in place.collections}:
            raise Wrong(f"{device} was not repaired")
    _check_edits(world)
    _check_counters(world)
    _check_quarantine(server)
    _check_conflicts(server)
    if world.plan.ends_with_purge:
        old = server.now_ms - 32 * DAY_MS
        due = [key for key, deleted_ms in server.oracle.deleted_ms.items() if 0 < deleted_ms < old]
        if due:
            raise Wrong(f"{due} were never purged")


def _check_edits(world: "World") -> None:
    """Every change that was acknowledged is there or superseded; a device's later edits are above its earlier ones."""
    # A restored server can't get back what only a device held that is gone, was damaged, or asks for it no more; and what is sent
    # again may find its document filled up by what is new: then it is in the quarantine.
    may_be_lost = world.server.restores and (
        world.moved_collections
        or world.had_damage
        or any(life.is_cut for life in world.lives)
        or "document_full" in world.server.oracle.quarantine.values()
    )
    documents = world.server.oracle.documents
    for edit in world.edits.values():
        if edit.status == "accepted" and edit.key not in world.server.oracle.purged and not may_be_lost:
            held = documents.get(edit.key, {})
            for path, value in edit.given.items():
                if path not in held or held[path][:2] < (edit.effective, value):
                    raise Wrong(f"{edit.key}/{path} = {value!r} @{edit.effective:x} was acknowledged, and is lost")
    if world.server.restores:
        return  # pairs of restamps made since are forgotten
    for life in world.lives:
        if not life.is_cloned:
            for key in {edit.key for edit in life.edits}:
                stamps = [edit.effective for edit in life.edits if edit.status == "accepted" and edit.key == key]
                if stamps != sorted(set(stamps)):
                    raise Wrong(f"edits of replica {life.number} changed order: {[f'{one:x}' for one in stamps]}")


def _check_counters(world: "World") -> None:
    """Each replica's part of each counter is the sum of what its user did."""
    if world.server.restores or world.had_damage or any(life.is_cut or life.is_cloned for life in world.lives):
        return
    counted: dict[tuple[Key, int], list[Edit]] = {}
    for edit in world.edits.values():
        if edit.increment:
            counted.setdefault((edit.key, edit.life.number), []).append(edit)
    for (key, number), edits in counted.items():
        if key in world.server.oracle.purged or any(edit.status == "rejected" for edit in edits):
            continue
        register = world.server.oracle.documents[key][f"water_ml/{number}"]
        if register.value != canonical(sum(edit.increment for edit in edits)):
            raise Wrong(f"replica {number} counted {register.value!r} in {key}")


def _check_quarantine(server: Server) -> None:
    """What was refused is kept, once; what was accepted since is not.

    Groups of registers that two devices send again after a restore may share an id, and hold different paths.
    """
    listed: set[tuple[str | None, bytes]] = set()
    for entry in server.quarantined():
        name = entry.change_id, canonical(decoded(entry.raw, entry.format)["set"])
        if name in listed:
            raise Wrong(f"the quarantine holds {name} twice")
        listed.add(name)
    if {change_id for change_id, _ in listed} != server.oracle.quarantine.keys():
        raise Wrong(f"the quarantine holds {sorted(listed)}; expected {sorted(server.oracle.quarantine)}")


def _check_conflicts(server: Server) -> None:
    """What lost is listed, once, for 30 days."""
    listed = {}
    for one in server.conflicts():
        name = Lost(tuple(one.key), one.path, one.lost_stamp, canonical(values.to_python(one.lost_value)))  # type: ignore[arg-type]
        if name not in server.oracle.late:
            listed[name] = one.won_stamp, canonical(values.to_python(one.won_value)), one.at_ms
    expected = {
        name: entry
        for name, entry in server.oracle.conflicts.items()
        if entry[2] > server.now_ms - 30 * DAY_MS and name not in server.oracle.late
    }
    if listed != expected:
        raise Wrong(f"conflicts: {listed}; expected {expected}")
