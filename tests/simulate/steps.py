"""What every kind of step does. Numbers are taken modulo what there is."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from sync.document import Key
from sync.replica import Replica
from tests.simulate import verdict
from tests.simulate.device import Device
from tests.simulate.oracle import DAY_MS
from tests.simulate.plan import Kind, Plan
from tests.simulate.world import SUBSETS, World

DOCUMENTS: Final = (
    ("workouts", "00000000-0000-4000-8000-000000000001"),
    ("nutrition", "00000000-0000-4000-8000-000000000002"),
    ("workouts", "00000000-0000-4000-8000-000000000763"),  # in one part with the first, so that a repair has two pages
    ("nutrition", "00000000-0000-4000-8000-000000000004"),
)
VALUES: Final = ("a", "b", None, 1, 1.0, "1", True, "", [1], {"a": 1, "b": [2]}, {"b": [2.0], "a": 1.0}, "é\u2028")
WAITS_MS: Final = (
    1, 3, 1_000, 30_000, 60_000, 600_000, DAY_MS, DAY_MS, 5 * DAY_MS, 31 * DAY_MS, 31 * DAY_MS, 200 * DAY_MS,
)  # fmt: skip
MOST_SERVED_MS: Final = 600_000  # no server keeps a request longer


def play(plan: Plan, say: Callable[[str], None] | None = None) -> str:
    """Play a history. Return the hash of all that was sent and answered. Raises whatever goes wrong."""
    world = World(plan, say)
    with world.server.running():
        world.begin()
        for step in plan.steps:
            world.server.now_ms += 1 + step.numbers[-1] % 50
            STEPS[step.kind](world, *step.numbers)
        world.heal()
    return world.hash.hexdigest()


def edit(world: World, who: int, what: int, path: int, value: int, more: int) -> None:
    device, (collection, document) = world.device(who), DOCUMENTS[what % len(DOCUMENTS)]
    given, increment = _given(world, device, collection, document, path, value)
    if more % 4 == 0:
        given |= _given(world, device, collection, document, path + 1 + more // 4, value + 1, counts=False)[0]
    world.edit(device, (collection, document), given, increment)


def _given(
    world: World, device: Device, collection: str, document: str, path: int, value: int, *, counts: bool = True
) -> tuple[dict[str, Any], int]:
    given = VALUES[value % len(VALUES)]
    match path % 10:
        case 0 | 1:
            return {"notes": given}, 0
        case 2:
            return {"new/field": given}, 0
        case 3:
            return {"deleted": True}, 0
        case 4:
            return {"deleted": value % 3 == 0}, 0
        case 5 if collection == "workouts":
            return {f"sets/{value % 2}/reps": given}, 0
        case 6 if collection == "workouts":
            return {f"sets/{value % 2}/deleted": value % 4 > 0}, 0
        case 7 if collection == "workouts":
            return {f"tags/{value % 2}": value % 4 > 1}, 0
        case 8 | 9 if collection == "workouts":
            return {"title": given}, 0
        case _ if counts and not device.life.is_cloned:
            increment = 1 + value % 3
            counter = f"water_ml/{device.replica.number}"
            total = device.own_total(collection, document, counter)
            verdict.check_total(world.server, device, (collection, document), counter, total)
            return {counter: total + increment}, increment
        case _:
            return {"title" if collection == "workouts" else "day": given}, 0


def edit_badly(world: World, who: int, what: int, how: int, value: int, *_: int) -> None:
    device, (collection, document) = world.device(who), DOCUMENTS[what % len(DOCUMENTS)]
    given: dict[str, Any] = {"notes": VALUES[value % len(VALUES)]}
    match how % 5:
        case 0:
            collection = "of a newer app"
        case 1:
            given["notes/x"] = 1
        case 2:
            given[f"water_ml/{device.replica.number % 4095 + 1}"] = 1
            collection, document = DOCUMENTS[1]
        case 3:
            given["tags/x"], (collection, document) = 1, DOCUMENTS[0]
        case _:
            given = {f"new/{n}": n for n in range(world.plan.max_paths + 1)}
    world.edit(device, (collection, document), given)


def wait(world: World, how: int, *_: int) -> None:
    wait_ms = WAITS_MS[how % len(WAITS_MS)]
    world.server.now_ms += wait_ms
    world.say("{} ms pass", wait_ms)
    if wait_ms > MOST_SERVED_MS:
        world.kill_all()


def clock(world: World, who: int, how: int, *_: int) -> None:
    device = world.device(who)
    device.set_clock(how, world.server.now_ms)
    world.say("{}'s clock is set to {}", device, device.now_ms(world.server.now_ms) - world.server.now_ms)


def fill(world: World, what: int, path: int, value: int, *_: int) -> None:
    collection, document = DOCUMENTS[what % len(DOCUMENTS)]
    given = {("notes", "source", "day")[path % 3]: VALUES[value % len(VALUES)]}
    world.say("the server writes {}/{} {}", collection, document[-1], given)
    world.server.fill(collection, document, given)


# The network.


def sync(world: World, who: int, manner: int, fault: int, where: int, *_: int) -> None:
    device = world.device(who)
    flight = world.send(device, manner, _faults(fault, where))
    if fault % 8 == 1:  # the process dies at some await
        world.server.go_on(flight, where % 12)
        flight.serving.kill()
        device.flight = None
        world.say("  the server's process dies after {} stops", where % 12)
        return
    world.server.go_on(flight)
    if fault % 8 == 2:
        device.flight = None
        world.say("  the response is lost")
        return
    world.receive(device)
    device.repair(world.server, most_asks=where % 3)


def run(world: World, who: int, manner: int, *_: int) -> None:
    world.drain(world.device(who), manner)


def start(world: World, who: int, manner: int, stops: int, fault: int, where: int) -> None:
    device = world.device(who)
    world.send(device, manner, _faults(fault, where))
    world.step(device, stops % 6)


def go(world: World, who: int, stops: int, *_: int) -> None:
    device = world.device(who)
    world.step(device, 1 + stops % 8)


def abandon(world: World, who: int, *_: int) -> None:
    device = world.device(who)
    world.let_go(device)


def ghost(world: World, which: int, stops: int, *_: int) -> None:
    if world.ghosts:
        flight = world.ghosts[which % len(world.ghosts)]
        if not flight.serving.is_done:
            world.say("a request that nobody waits for goes on for {} stops", 1 + stops % 8)
            world.server.go_on(flight, 1 + stops % 8)


def again(world: World, which: int, stops: int, *_: int) -> None:
    if world.sent:
        flight = world.sent[which % len(world.sent)].again()
        world.say("request {} arrives again", which % len(world.sent))
        world.server.serve(flight)
        world.ghosts.append(flight)
        world.server.go_on(flight, stops % 30)


def crash(world: World, who: int, *_: int) -> None:
    device = world.device(who)
    world.let_go(device)
    device.restart()
    world.say("{} crashes", device)


def foreign(world: World, who: int, how: int, *_: int) -> None:
    device = world.device(who)
    world.let_go(device)
    if device.replica.cursor:
        device.replica.cursor = ("garbage", device.replica.cursor[:-1] + "A", device.replica.cursor + "=")[how % 3]
        world.say("{} has a foreign cursor", device)


def collections(world: World, who: int, which: int, *_: int) -> None:
    device = world.device(who)
    world.let_go(device)
    device.replica.collections = SUBSETS[which % len(SUBSETS)]
    world.moved_collections = True
    world.say("{} asks for {}", device, device.replica.collections)


# What becomes of installations.


def keep(world: World, who: int, *_: int) -> None:
    device = world.device(who)
    device.kept.append((device.replica.snapshot(), frozenset(device.damaged)))
    world.say("{} is backed up", device)


def come_back(world: World, who: int, which: int, how: int, *_: int) -> None:
    device = world.device(who)
    if not device.kept:
        return
    world.let_go(device)
    snapshot, damaged = device.kept[which % len(device.kept)]
    device.replica = Replica.restore(snapshot)
    device.damaged |= damaged
    device.life.is_cut = True
    if how % 3 == 0:  # as no app should: two stores of one replica
        device.life.is_cloned = True
        world.say("{} is restored from a backup, and goes on as itself", device)
    else:
        world.register_anew(device)
        world.say("{} is restored from a backup, as replica {}", device, device.replica.number)


def reinstall(world: World, who: int, *_: int) -> None:
    device = world.device(who)
    world.let_go(device)
    device.life.is_cut = True
    fresh = world.new_device(device.index)
    fresh.replica.collections, fresh.leaves_base_out = device.replica.collections, device.leaves_base_out
    world.devices[device.index] = fresh
    world.register(fresh)
    world.say("{} is installed anew as replica {}", fresh, fresh.replica.number)


def forget(world: World, who: int, *_: int) -> None:
    device = world.device(who)
    world.server.forget(device.replica.device_id)
    world.say("{} is removed from the account", device)


def corrupt(world: World, who: int, what: int, how: int, path: int, *_: int) -> None:
    device = world.device(who)
    world.let_go(device)
    if device.damage(Key(*DOCUMENTS[what % len(DOCUMENTS)]), how, path):
        world.had_damage = device.life.is_cut = True
        world.say("{}'s store is damaged", device)


def hand(world: World, watch: int, phone: int, *_: int) -> None:
    giver, taker = world.device(watch), world.device(phone)
    if giver is taker:
        return
    taker.replica.carry(giver.replica.hand_over())
    world.say("{} hands its queue to {}", giver, taker)


def tell(world: World, watch: int, phone: int, *_: int) -> None:
    giver, taker = world.device(watch), world.device(phone)
    if giver is taker:
        return
    world.let_go(giver)
    results = [one for one in taker.replica.carried.values() if one["id"] in giver.replica.unsent]
    giver.replica.told(results)
    taker.replica.delivered([one["id"] for one in results])
    for result in results:
        if result["id"] in world.edits:
            world.told(result["id"], result)
    world.say("{} is told of {} changes by {}", giver, len(results), taker)


# What becomes of the server.


def backup(world: World, *_: int) -> None:
    world.server.back_up()
    world.say("the server is backed up")


def restore(world: World, which: int, *_: int) -> None:
    if not world.server.restore(which):
        return
    world.kill_all()
    for device in world.devices:
        # What the server that is no more answered is nothing to tell another device: it sends its changes itself.
        device.replica.delivered(list(device.replica.carried))
    world.say("the server is restored to sequence {}", world.server.oracle.seq)


def retry(world: World, which: int, *_: int) -> None:
    change_id = world.server.retry(which)
    if change_id is not None:
        world.say("{} is tried again", change_id)


def recover(world: World, which: int, *_: int) -> None:
    conflict = world.server.recover(which)
    if conflict is not None:
        world.say("{}/{} is brought back", conflict.key.id[-1], conflict.path)


def _faults(fault: int, where: int) -> dict[int, str]:
    """What befalls the store under one request: mostly nothing."""
    kind = fault // 8 % 16
    if kind > 5:
        return {}
    return {where // 16 % 4: ("before", "after", "rerun", "rerun", "partial", "stale")[kind]}


STEPS: Final[Mapping[Kind, Callable[..., None]]] = {
    "edit": edit,
    "bad": edit_badly,
    "wait": wait,
    "clock": clock,
    "fill": fill,
    "sync": sync,
    "run": run,
    "start": start,
    "go": go,
    "abandon": abandon,
    "ghost": ghost,
    "again": again,
    "crash": crash,
    "foreign": foreign,
    "collections": collections,
    "keep": keep,
    "return": come_back,
    "reinstall": reinstall,
    "forget": forget,
    "corrupt": corrupt,
    "hand": hand,
    "tell": tell,
    "backup": backup,
    "restore": restore,
    "retry": retry,
    "recover": recover,
}
