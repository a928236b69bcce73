"""A verdict that is good when all is well, and names what is wrong when something is."""

import uuid
from collections.abc import Callable

import pytest

from fitness_api.fleet import verdict
from fitness_api.fleet.verdict import Done, Settled
from sync.clock import Stamp
from sync.document import Key
from sync.replica import Register, Replica

KEY = Key("nutrition", str(uuid.UUID(int=1)))
PATH = "water_ml/1"


def settled(name: str) -> Settled:
    replica = Replica(str(uuid.uuid4()), 1)
    replica._answered.enter(KEY, "notes", Register("hello", Stamp(5)))
    replica._answered.enter(KEY, PATH, Register(750, Stamp(6)))
    return Settled(name, replica, None, Done({KEY}, {(KEY, PATH): 750}))


def test_devices_that_hold_the_same_and_lost_nothing_are_well() -> None:
    assert verdict.problems([[settled("1.1"), settled("1.2")], [settled("2.1")], []]) == []


def unsent(device: Settled) -> Settled:
    device.replica.edit("nutrition", KEY.id, {"notes": "x"}, change_id=str(uuid.uuid4()), now_ms=1)
    return device


def aside(device: Settled) -> Settled:
    unsent(device)
    device.replica.set_aside(next(iter(device.replica.unsent)))
    return device


def diverged(device: Settled) -> Settled:
    device.replica.diverged.add("nutrition")
    return device


def another_value(device: Settled) -> Settled:
    device.replica.answered[KEY]["notes"] = Register("hallo", Stamp(5))
    return device


def another_stamp(device: Settled) -> Settled:
    device.replica._answered.enter(KEY, "notes", Register("hello", Stamp(9)))
    return device


def another_register(device: Settled) -> Settled:
    device.replica._answered.enter(KEY, "deleted", Register(False, Stamp(9)))
    return device


def another_sum(device: Settled) -> Settled:
    device.replica._answered.sums["nutrition"] += 1
    return device


def lost_document(device: Settled) -> Settled:
    device.done.made.add(Key("workouts", str(uuid.UUID(int=2))))
    return device


def lost_count(device: Settled) -> Settled:
    return device._replace(done=Done(device.done.made, {(KEY, PATH): 1000}))


def stopped(device: Settled) -> Settled:
    return device._replace(stopped="reset_loop")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (unsent, "1.2: 1 changes are still in the queue"),
        (aside, "1.2: 1 changes were refused"),
        (diverged, "1.2: differs from the server's digests (nutrition)"),
        (another_value, "1.1 and 1.2: nutrition/"),
        (another_stamp, "1.1 and 1.2: nutrition/"),
        (another_register, "deleted is None and"),
        (another_sum, "their digests differ"),
        (lost_document, "was made here and is lost"),
        (lost_count, "counted 1000, and is Register(value=750"),
        (stopped, "1.2: stopped (reset_loop)"),
    ],
)
def test_what_is_wrong_is_named(wrong: Callable[[Settled], Settled], said: str) -> None:
    found = verdict.problems([[settled("1.1"), wrong(settled("1.2"))]])
    assert found
    assert any(said in line for line in found), found


def test_of_many_differences_a_few_are_named() -> None:
    one, other = settled("1.1"), settled("1.2")
    for number in range(50):
        other.replica._answered.enter(KEY, f"tags/{number}", Register(True, Stamp(7)))
    found = verdict.problems([[one, other]])
    assert len(found) < 10
    assert "… and 45 more registers" in found
