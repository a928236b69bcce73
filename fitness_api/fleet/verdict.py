"""Whether all is well with a fleet that was left to settle: the devices of an account hold the same, and nothing was lost."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sync import values
from sync.document import Key
from sync.replica import Replica

_SHOWN = 5  # differences named one by one; a fleet that is broken has thousands


class Done(NamedTuple):
    """What a device's user did, as the user remembers it: the documents made, and each counter path's running total."""

    made: set[Key]
    totals: Mapping[tuple[Key, str], int]


class Settled(NamedTuple):
    """A device at the end. `stopped`: why its conversation stopped, or None."""

    name: str
    replica: Replica
    stopped: str | None
    done: Done


def problems(accounts: Sequence[Sequence[Settled]]) -> list[str]:
    """Return what is wrong, each as a line; nothing if all is well."""
    return [line for devices in accounts for device in devices for line in _of_device(device)] + [
        line for devices in accounts if devices for line in _of_account(devices)
    ]


def _of_device(device: Settled) -> list[str]:
    replica, name = device.replica, device.name
    found = []
    if replica.unsent:
        found.append(f"{name}: {len(replica.unsent)} changes are still in the queue")
    if replica.aside:
        found.append(f"{name}: {len(replica.aside)} changes were refused and set aside")
    if replica.diverged or replica.wants_to_repair:
        found.append(
            f"{name}: differs from the server's digests ({', '.join(sorted(replica.diverged)) or 'a repair goes on'})"
        )
    if device.stopped:
        found.append(f"{name}: stopped ({device.stopped})")
    return found


def _of_account(devices: Sequence[Settled]) -> list[str]:
    first, *others = devices
    found = []
    for other in others:
        found += _differences(first, other)
        if {name: one for name, one in first.replica.digests().items() if int(one, 16)} != {
            name: one for name, one in other.replica.digests().items() if int(one, 16)
        }:
            found.append(f"{first.name} and {other.name}: their digests differ")
    for device in devices:
        lost = device.done.made - first.replica.answered.keys()
        found += [
            f"{device.name}: {key.collection}/{key.id} was made here and is lost" for key in sorted(lost)[:_SHOWN]
        ]
        for (key, path), total in device.done.totals.items():
            register = first.replica.answered.get(key, {}).get(path)
            if register is None or register.value != total:
                found.append(f"{device.name}: {key.collection}/{key.id}/{path} counted {total}, and is {register}")
    return found


def _differences(one: Settled, other: Settled) -> list[str]:
    found = []
    mine, theirs = one.replica.answered, other.replica.answered
    for key in sorted(mine.keys() | theirs.keys()):
        left, right = mine.get(key, {}), theirs.get(key, {})
        for path in sorted(left.keys() | right.keys()):
            a, b = left.get(path), right.get(path)
            if a is None or b is None or a.stamp != b.stamp or not values.same(a.value, b.value):
                found.append(f"{one.name} and {other.name}: {key.collection}/{key.id}/{path} is {a} and {b}")
    return found[:_SHOWN] + ([f"… and {len(found) - _SHOWN} more registers"] if len(found) > _SHOWN else [])
