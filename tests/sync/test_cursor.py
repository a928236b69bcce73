from base64 import urlsafe_b64encode

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from sync import cursor
from sync.cursor import Cursor, Place
from sync.schema import COLLECTIONS

KEY = b"k" * 32
ALL = tuple(COLLECTIONS)
sequences = st.integers(0, 2**53)
places = st.builds(
    Place,
    st.lists(st.sampled_from(ALL), unique=True, max_size=7).map(tuple),
    sequences,
    sequences,
    st.none() | sequences,
)
cursors = st.builds(Cursor, st.integers(0, 2**62), sequences, st.lists(places, max_size=7).map(tuple))


@given(cursors, st.uuids().map(str))
def test_a_cursor_is_read_back_by_its_account_and_key_alone(made: Cursor, user_id: str) -> None:
    text = cursor.encode(made, key=KEY, user_id=user_id)
    assert text.isascii()
    assert cursor.decode(text, key=KEY, user_id=user_id) == made
    assert cursor.decode(text, key=KEY, user_id=user_id + "0") is None
    assert cursor.decode(text, key=KEY[::-1] + b"x", user_id=user_id) is None


@given(cursors, st.integers(0, 10_000), st.characters())
def test_a_changed_cursor_is_foreign(made: Cursor, at: int, put: str) -> None:
    text = cursor.encode(made, key=KEY, user_id="u")
    at %= len(text)
    changed = text[:at] + put + text[at + 1 :]
    assume(changed != text)
    # The last digit of base64 may have bits that nobody reads: then it says the same still.
    assert cursor.decode(changed, key=KEY, user_id="u") in ((None, made) if at == len(text) - 1 else (None,))


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_foreign(text: str) -> None:
    assert cursor.decode(text, key=KEY, user_id="u") is None


def test_the_longest_cursor_is_short_enough_to_be_read() -> None:
    made = Cursor(2**31 - 1, 2**53, tuple(Place((name,), 2**53, 2**53, 2**53) for name in ALL))
    text = cursor.encode(made, key=KEY, user_id="u")
    assert cursor.decode(text, key=KEY, user_id="u") == made
    assert len(text) < 512


def test_a_signed_body_of_another_form_is_foreign() -> None:
    body = msgspec.msgpack.encode({"epoch": 1})
    signed = urlsafe_b64encode(cursor._mac(body, KEY, "u") + body).decode()
    assert cursor.decode(signed, key=KEY, user_id="u") is None


def test_keys_are_derived() -> None:
    assert cursor.derive_key(b"a" * 32) == cursor.derive_key(b"a" * 32)
    assert cursor.derive_key(b"a" * 32) != cursor.derive_key(b"b" * 32)
    assert len(cursor.derive_key(b"a" * 32)) == 32


def open_(made: Cursor | None, *collections: str, epoch: int = 1, newest: int = 10) -> tuple[tuple[Place, ...], bool]:
    return cursor.open_run(made, epoch=epoch, newest=newest, collections=collections)


def test_a_run_is_opened_where_the_last_one_ended() -> None:
    ended = cursor.close_run(1, ("goals", "workouts"), at=7)
    assert open_(ended, "goals", "workouts") == ((Place(("goals", "workouts"), 7, 7),), False)
    assert open_(None, "goals") == ((Place(("goals",), 0, 10, 11),), False)


def test_collections_come_and_go() -> None:
    ended = cursor.close_run(1, ("goals", "workouts"), at=7)
    assert open_(ended, "workouts", "nutrition") == (
        (Place(("workouts",), 7, 7), Place(("nutrition",), 0, 10, 11)),
        False,
    )
    assert open_(ended, "nutrition") == ((Place(("nutrition",), 0, 10, 11),), False)
    assert open_(ended) == ((), False)


def test_a_foreign_epoch_and_a_rewound_account_start_anew() -> None:
    ended = cursor.close_run(1, ("goals",), at=7)
    anew = (Place(("goals",), 0, 10, 11),)
    assert open_(ended, "goals", epoch=2) == (anew, True)
    assert open_(ended, "goals", newest=7) == ((Place(("goals",), 7, 7),), False)
    assert open_(ended, "goals", newest=6) == ((Place(("goals",), 0, 6, 7),), True)


@given(st.lists(places, max_size=3).map(tuple), st.lists(st.sampled_from(ALL), unique=True).map(tuple))
def test_every_wanted_collection_has_one_place(held: tuple[Place, ...], wanted: tuple[str, ...]) -> None:
    opened, _ = cursor.open_run(Cursor(1, 2**53, held), epoch=1, newest=2**53, collections=wanted)
    assert sorted(name for place in opened for name in place.collections) == sorted(wanted)


def test_a_cursor_from_the_middle_of_a_run_is_ahead_of_an_older_state_too() -> None:
    """Its place may be behind: what it says was read of an account that had more."""
    going_on = Cursor(1, 9, (Place(("goals",), 2, 5),))
    assert open_(going_on, "goals", newest=9) == ((Place(("goals",), 2, 5),), False)
    assert open_(going_on, "goals", newest=8) == ((Place(("goals",), 0, 8, 9),), True)
    # Of another epoch nothing is told by numbers.
    assert not cursor.is_ahead(going_on, epoch=2, newest=1)


def shown(made: Cursor | None, *collections: str, epoch: int = 1, newest: int = 10) -> int:
    return cursor.presented(made, epoch=epoch, newest=newest, collections=collections)


def test_what_a_device_surely_holds() -> None:
    ended = cursor.close_run(1, ("goals", "workouts"), at=7)
    assert shown(ended, "goals", "workouts") == shown(ended, "goals") == 7
    assert shown(ended, "goals", "nutrition") == 0  # the one that it adds has not come yet
    assert shown(ended) == shown(None, "goals") == 0
    assert shown(ended, "goals", epoch=2) == shown(ended, "goals", newest=6) == 0
    parts = Cursor(1, 9, (Place(("goals",), 3, 5), Place(("workouts",), 0, 9)))
    assert (shown(parts, "goals"), shown(parts, "workouts"), shown(parts, "workouts", "goals")) == (5, 9, 5)
    # While a snapshot is read from its newest end, nothing is held for sure; the delta after it is read from there.
    assert shown(Cursor(1, 9, (Place(("goals",), 0, 8, 4),)), "goals") == 0
    assert shown(Cursor(1, 9, (Place(("goals",), 0, 8),)), "goals") == 8


@given(cursors, sequences, st.lists(st.sampled_from(ALL), unique=True).map(tuple))
def test_nobody_is_taken_to_hold_more_than_it_was_given(made: Cursor, newest: int, wanted: tuple[str, ...]) -> None:
    held = cursor.presented(made, epoch=made.epoch, newest=newest, collections=wanted)
    given_ = [max((place.at for place in made.places if name in place.collections), default=0) for name in wanted]
    assert 0 <= held <= min(given_, default=0)
