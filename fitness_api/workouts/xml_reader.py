"""Reading the XML of recordings, GPX and TCX, as a stream of flat elements.

Strangers' XML: a document type, which alone makes entities and their bombs, ends the reading; depth and text are bounded; nothing is
ever fetched. What stands before a fault is read.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final
from xml.parsers import expat

from fitness_api.workouts.recording import TooComplex

# GPX and TCX need 8, with every vendor's extensions.
MAX_DEPTH: Final = 64
# A title or a number. What is longer is cut off there.
MAX_TEXT: Final = 1_000
# Fields of one point or lap; no vendor has 50.
MAX_FIELDS: Final = 100

_SEPARATOR: Final = " "
_PIECE_BYTES: Final = 64 * 1024

Fields = Mapping[str, str]


class _Open:
    """An element of interest that has begun, and the leaves in it so far."""

    def __init__(self, name: str, attributes: Mapping[str, str]) -> None:
        self.name = name
        self.fields: dict[str, str] = {f"@{name}": value[:MAX_TEXT] for name, value in attributes.items()}


class Reader:
    """Calls `begun(name)` and `ended(name, fields)` for each element whose local name is in `elements`.

    Fields are the texts of the leaves below it by local name, and its attributes by `@name`; a leaf named Value goes by its parent's
    name, as TCX writes numbers. Of leaves of one name the first counts. What lies in an inner element of interest is that one's.
    """

    def __init__(
        self, elements: Collection[str], *, begun: Callable[[str], None], ended: Callable[[str, Fields], None]
    ) -> None:
        self._elements = frozenset(elements)
        self._begun = begun
        self._ended = ended
        self._path: list[str] = []
        self._open: list[_Open] = []
        self._text: list[str] = []
        self._is_leaf = False

    def read(self, data: bytes) -> bool:
        """Return whether the document was well-formed to its end. Raises TooComplex where it is no recording's XML."""
        parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        try:
            # Piece by piece, so that what an early handler refuses costs no more than its piece.
            for at in range(0, len(data), _PIECE_BYTES):
                parser.Parse(data[at : at + _PIECE_BYTES], False)
            parser.Parse(b"", True)
        except expat.ExpatError:
            return False
        return True

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(_SEPARATOR)[2]
        if len(self._path) >= MAX_DEPTH:
            raise TooComplex(f"Elements are nested over {MAX_DEPTH} deep.")
        self._path.append(local)
        self._text.clear()
        self._is_leaf = True
        if local in self._elements:
            self._open.append(_Open(local, attributes))
            self._begun(local)

    def _end(self, _: str) -> None:
        local = self._path.pop()
        if self._open and self._open[-1].name == local and local in self._elements:
            done = self._open.pop()
            self._ended(local, done.fields)
        elif self._is_leaf and self._open:
            fields = self._open[-1].fields
            key = self._path[-1] if local == "Value" and self._path else local
            text = "".join(self._text)[:MAX_TEXT].strip()
            if text and key not in fields and len(fields) < MAX_FIELDS:
                fields[key] = text
        self._is_leaf = False
        self._text.clear()


def _refuse_doctype(*_: object) -> None:
    raise TooComplex("The file declares a document type.")
