"""The bounds of a page; what goes onto it is told by the tests of the exchange."""

import pytest

from sync import changes
from sync.changes import MAX_LIMIT
from sync.document import Document, Key, Mark
from sync.download import Page
from tests.sync.model import new_id, stamp_at


def filled(page: Page, sizes: list[int]) -> int:
    """Return how many documents of so many bytes the page takes, held against the room it says that it has."""
    for index, size in enumerate(sizes):
        document = Document(
            Key("workouts", new_id()), seq=index + 1, values={"notes": "x" * size}, usual=Mark(stamp_at(), index + 1)
        )
        assert page.room() >= 1
        if not page.takes(document, began=0):
            return index
    return len(sizes)


def test_an_empty_page_has_room_for_its_limit_and_one_that_shows_that_there_are_more() -> None:
    assert Page(5, "json").room() == 6
    assert Page(MAX_LIMIT, "json").room() == 200


@pytest.mark.parametrize("size", [500, 1_500, 20_000, changes.MAX_PAGE_BYTES])
def test_the_room_that_is_left_is_told_by_what_there_is(size: int) -> None:
    whole = filled(Page(MAX_LIMIT, "json"), [size] * 1_001)
    begun = Page(MAX_LIMIT, "json")
    taken = filled(begun, [size] * (whole // 3 + 1))
    assert whole - taken + 1 <= begun.room() <= whole - taken + 2


def test_a_full_page_still_reads_the_one_that_shows_it() -> None:
    page = Page(2, "json")
    assert filled(page, [10, 10, 10]) == 2
    assert page.room() >= 1
