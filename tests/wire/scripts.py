"""The stories behind the golden exchanges: what two users do, and what happens to the device under test and to the server.

A device under test does `edit` and `sync` (and `repair`); `other` is another device of the account, whose requests are written
out because some of them no sound device would send.
"""

from typing import Any, Final

from tests.wire.play import NOW_MS, Json, Script

RIDE: Final = "0190a1b2-0000-7000-8000-000000000001"
RUN: Final = "0190a1b2-0000-7000-8000-000000000002"
SWIM: Final = "0190a1b2-0000-7000-8000-000000000003"
DAY_MS: Final = 86_400_000
REPLICA: Final = 2332  # of the device under test, as the dice of the file give it
YEARS_MS: Final = 10 * 365 * DAY_MS


def edit(
    doc: str = RIDE, /, given: Json | None = None, *, at_ms: int = 0, collection: str = "workouts", **more: Any
) -> Json:
    """Paths are written with two underscores for the slash."""
    paths = (given or {}) | {path.replace("__", "/"): value for path, value in more.items()}
    return {"do": "edit", "collection": collection, "doc": doc, "set": paths, "wall_ms": NOW_MS + at_ms}


def sync(**more: Any) -> Json:
    return {"do": "sync", **more}


def later(ms: int) -> Json:
    return {"do": "later", "ms": ms}


def stamp(at_ms: int, replica: int = 9) -> str:
    return f"{(NOW_MS + at_ms) << 21 | replica:016x}"


def change(
    doc: str = RIDE, *, at_ms: int = 0, collection: str = "workouts", replica: int = 9, given: Json, **more: Any
) -> Json:
    return {"collection": collection, "doc": doc, "stamp": stamp(at_ms, replica), "set": given, **more}


def other(*changes: Json, **more: Any) -> Json:
    return {"do": "other", "changes": list(changes), **more}


SHAPES: Final = [
    edit(title="Ride", tags__lake=True, tags__hills=False, sets__a__reps=12, sets__a__pos="a1", sets__b__pos="a0"),
    edit(RUN, at_ms=1, title="Run", notes=None, newer={"kept": [1, 2.5, "ü", None, {"b": 1, "a": 2}]}),
    edit(
        SWIM, {f"water_ml/{REPLICA}": 250}, at_ms=2, collection="nutrition", notes="the counter's path is this device's"
    ),
    sync(),
    edit(at_ms=3, title=None, tags__hills=True, tags__lake=False),
    edit(RUN, at_ms=4, deleted=True),
    sync(),
    edit(RUN, {"tags/a~1b": True}, at_ms=5, deleted=False),
    sync(),
]

SCRIPTS: Final[dict[str, Script]] = {
    "shapes": Script(
        "Registers, sets, counters and children; deleting and restoring; what this server does not know.", SHAPES
    ),
    "shapes_msgpack": Script("The same over msgpack: one structure, other bytes.", SHAPES, "msgpack"),
    "lost_response": Script(
        "A response is lost. The same request, and what was edited since, goes up; nothing is done twice.",
        [edit(title="Ride"), sync(lost=True), edit(at_ms=5, rpe=7), sync(), sync()],
    ),
    "unchanged": Script(
        "Another device carried the same change before: its registers are there already.",
        [edit(title="Ride"), sync(lost=True), {"do": "restart"}, sync()],
    ),
    "superseded": Script(
        "The other device wrote later: the losing path is given with the greater register, the others stand.",
        [
            other(change(at_ms=50, given={"title": "Theirs", "rpe": 3})),
            edit(title="Mine", notes="mine"),
            sync(),
            sync(),
        ],
    ),
    "same_stamp": Script(
        "Two registers of one stamp, as of a phone that was restored from a backup: the greater canonical JSON wins.",
        [
            edit(title="b", notes=1),
            other(
                change(replica=REPLICA, given={"title": "c", "notes": 1.0}),
                change(replica=REPLICA, given={"title": "a"}),
            ),
            sync(),
        ],
    ),
    "restamped": Script(
        "A clock ten years ahead. The stamp is replaced, a retry gets the same one, and the clock that is set right is believed.",
        [
            edit(at_ms=YEARS_MS, title="Future"),
            sync(lost=True),
            later(5_000),
            sync(),
            edit(at_ms=6_000, title="Now"),
            sync(),
        ],
    ),
    "restamped_clock_stands": Script(
        "A clock that stands still, years ahead: no stamp is given twice, though the first one is no longer held.",
        [edit(at_ms=YEARS_MS, title="One"), sync(), later(1_000), edit(at_ms=YEARS_MS, title="Two"), sync()],
    ),
    "restamped_and_superseded": Script(
        "The replacement is above all that was accepted, so that a change restamped before loses to what came since.",
        [
            edit(at_ms=YEARS_MS, title="Future"),
            sync(lost=True),
            later(1_000),
            other(change(at_ms=900, given={"title": "Since"})),
            sync(),
        ],
    ),
    "rejected": Script(
        "One bad change never holds up the others: it is dropped, and kept in quarantine by the server.",
        [
            edit(collection="saunas", title="no such collection"),
            edit(at_ms=1, title__x="a register has no parts"),
            edit(at_ms=2, tags__pr=1),
            edit(at_ms=3, collection="nutrition", water_ml__7=250),
            edit(RUN, at_ms=4, title="good"),
            sync(),
        ],
    ),
    "every_code": Script(
        "Every code of a refusal but document_purged, in one request that no sound device sends.",
        [
            other(
                change(collection="saunas", given={"title": "x"}),
                change(given={"title": "x"}) | {"stamp": "0000000000000000"},
                change(given={"title/x": 1}),
                change(given={}) | {"set": []},
                change(given={"title": "x"}) | {"id": "not a uuid"},
                change(collection="nutrition", given={"water_ml/7": 250}),
                change(given={"notes": "x" * 16_400}),
                change(RUN, given={f"n{number}": 0 for number in range(2_001)}),
                change(SWIM, given={"title": "good"}),
            ),
            sync(),
        ],
    ),
    "echo": Script(
        "A document that this request carries is given without what it carries; what the other wrote into it is given.",
        [
            edit(title="Ride"),
            sync(),
            other(change(at_ms=10, given={"rpe": 8})),
            edit(at_ms=20, notes="mine"),
            sync(),
            sync(),
        ],
    ),
    "snapshot_pages": Script(
        "An empty cursor, in pages of one document, most recently changed first; one changes meanwhile, and comes again.",
        [
            other(*(change(doc, at_ms=n, given={"title": f"{n}"}) for n, doc in enumerate((RIDE, RUN, SWIM)))),
            sync(limit=1),
            other(change(SWIM, at_ms=9, given={"rpe": 9}), follows=True),
            sync(limit=1),
            sync(limit=1),
            sync(limit=1),
            sync(limit=1),
        ],
    ),
    "delta": Script(
        "A delta gives, of a document, only the registers that changed since the run began.",
        [
            other(change(given={"title": "Ride", "rpe": 5, "notes": "…"})),
            sync(),
            other(change(at_ms=5, given={"rpe": 6})),
            sync(),
            sync(),
        ],
    ),
    "reset": Script(
        "The server was restored from a backup: what was answered is held and shown until the run ends, then sent again where it is lacking.",
        [
            edit(title="Ride"),
            edit(RUN, at_ms=1, title="Run"),
            sync(),
            sync(),
            {"do": "back_up"},
            edit(at_ms=2, title="after the backup"),
            edit(SWIM, at_ms=3, title="after the backup, too"),
            sync(),
            edit(at_ms=4, notes="in the queue, with a base"),
            {"do": "restore"},
            sync(limit=1),
            sync(limit=1),
            sync(),
            sync(),
        ],
    ),
    "purge_mark": Script(
        "Thirty days after a deletion that every device knows, a document is purged: its mark comes down, and it is dropped.",
        [
            edit(title="Ride"),
            edit(RUN, at_ms=1, title="stays"),
            sync(),
            edit(at_ms=2, deleted=True),
            sync(),
            sync(),
            other(),
            other(follows=True),
            later(2 * DAY_MS),
            sync(),
            other(follows=True),
            later(30 * DAY_MS),
            sync(),
            sync(),
            edit(at_ms=32 * DAY_MS, title="an edit of what is barred"),
            sync(),
        ],
    ),
    "digest_and_repair": Script(
        "The device's store lost a document. Its sum differs from the server's digest; the parts that differ are fetched.",
        [
            edit(title="Ride", rpe=7),
            edit(RUN, at_ms=1, title="Run"),
            sync(),
            {"do": "lose", "document": f"workouts/{RUN}"},
            sync(),
            {"do": "repair"},
            {"do": "repair"},
            sync(),
        ],
    ),
    "conflict": Script(
        "Both wrote the title without having seen the other's. The later one wins; the loser is kept for 30 days.",
        [
            edit(title="Ride"),
            sync(),
            sync(),
            other(change(at_ms=10, given={"title": "Theirs"}, base=1)),
            edit(at_ms=20, title="Mine"),
            sync(),
            {"do": "conflicts"},
        ],
    ),
    "subset": Script(
        "A device of one collection; another is added and gets its snapshot; it is left out again, and what is held of it stays.",
        [
            other(change(given={"title": "Ride"}), change(RUN, collection="goals", given={"title": "Goal"})),
            {"do": "choose", "collections": ["workouts"]},
            sync(),
            {"do": "choose", "collections": ["workouts", "goals"]},
            sync(),
            {"do": "choose", "collections": ["workouts"]},
            other(change(RUN, collection="goals", at_ms=9, given={"title": "Changed"})),
            sync(),
            {"do": "choose", "collections": None},
            sync(),
        ],
    ),
}
