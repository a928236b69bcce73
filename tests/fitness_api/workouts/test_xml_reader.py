import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.workouts.recording import TooComplex
from fitness_api.workouts.xml_reader import MAX_DEPTH, MAX_FIELDS, MAX_TEXT, Fields, Reader


def read(text: str | bytes, *elements: str) -> tuple[list[tuple[str, dict[str, str]]], bool]:
    found: list[tuple[str, dict[str, str]]] = []

    def ended(name: str, fields: Fields) -> None:
        found.append((name, dict(fields)))

    is_whole = Reader(elements, begun=lambda _: None, ended=ended).read(
        text if isinstance(text, bytes) else text.encode()
    )
    return found, is_whole


def test_leaves_attributes_and_values_of_an_element() -> None:
    text = """<a xmlns="urn:a" xmlns:v="urn:v"><p at="7"><one> 1 </one><hr><Value>120</Value></hr>
        <ext><v:TPX><v:Speed>3.5</v:Speed></v:TPX></ext></p></a>"""
    assert read(text, "p") == ([("p", {"@at": "7", "one": "1", "hr": "120", "Speed": "3.5"})], True)


def test_an_inner_element_of_interest_keeps_its_own() -> None:
    text = "<a><lap><time>9</time><p><time>1</time></p><p><time>2</time></p></lap></a>"
    assert read(text, "lap", "p")[0] == [("p", {"time": "1"}), ("p", {"time": "2"}), ("lap", {"time": "9"})]


def test_of_leaves_of_one_name_the_first_counts() -> None:
    assert read("<p><x>1</x><x>2</x></p>", "p")[0] == [("p", {"x": "1"})]


def test_what_stands_before_a_fault_is_read() -> None:
    assert read("<a><p><x>1</x></p><p><x>2</x></q></a>", "p") == ([("p", {"x": "1"})], False)
    assert read("<a><p><x>1</x></p><p><x>2", "p") == ([("p", {"x": "1"})], False)
    assert read("", "p") == ([], False)


BOMB = '<!DOCTYPE b [<!ENTITY a "x"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    "text",
    [
        BOMB + "<a><p><x>&b;</x></p></a>",
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        '<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1/x">%x;]><a/>',
        "<a>" * (MAX_DEPTH + 1),
    ],
)
def test_what_no_recording_has_ends_the_reading(text: str) -> None:
    with pytest.raises(TooComplex):
        read(text, "p")


def test_text_and_fields_are_bounded() -> None:
    many = "".join(f"<f{n}>1</f{n}>" for n in range(MAX_FIELDS + 50))
    [(_, fields)], _ = read(f"<p><x>{'y' * 100_000}</x>{many}</p>", "p")
    assert len(fields["x"]) == MAX_TEXT
    assert len(fields) == MAX_FIELDS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_encodings_are_those_that_the_file_declares(encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?><p><name>Zürich</name></p>'
    assert read(text.encode(encoding), "p") == ([("p", {"name": "Zürich"})], True)


@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail_otherwise(data: bytes) -> None:
    try:
        read(b"<a><p>" + data, "p")
    except TooComplex:
        assert b"<!" in data or data.count(b"<") >= MAX_DEPTH - 2
