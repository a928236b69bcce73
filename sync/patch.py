"""What a client that does not sync writes, as changes of paths: JSON Merge Patch (RFC 7396) over the shapes of a collection.

A document is written as it is read (`document.read`): sets are lists of their elements, children lists of objects. A list takes the
place of the one that is there, in its order; null clears. Only what differs becomes a change, so that what others wrote meanwhile
to the rest stays, and the same patch again changes nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from sync import changes, values
from sync.document import MAX_PATHS, Document, escaped
from sync.schema import COLLECTIONS, Field
from sync.values import ValueInvalid

# Their elements say what else is stored, and follow from that.
_KEPT_BY_US: Final = frozenset({"tracks", "imports"})

_BASE_62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # in the order of UTF-8


class PatchInvalid(Exception):
    """`pointer`: a JSON Pointer into the patch."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.pointer = pointer


def paths(
    collection: str, document: Document | None, given: Mapping[str, Any], *, new_id: Callable[[], str]
) -> dict[str, Any]:
    """Return path and JSON value of what differs. `new_id` names the children that come without an id.

    Raises PatchInvalid.
    """
    there = {} if document is None else document.values
    fields = COLLECTIONS[collection]
    wanted: dict[str, Any] = {}
    for name, value in given.items():
        spec = fields.get(name)
        field = name.partition("/")[0]
        if field in _KEPT_BY_US:
            raise PatchInvalid(_pointer(name), "Uploads and imports keep this list; it is not written.")
        if spec is None and field in fields:
            raise PatchInvalid(_pointer(name), "A field is written as it is read, and not by paths into it.")
        if spec is None or spec.shape == "register":
            wanted[name] = value
        elif spec.shape == "set":
            wanted |= _set(name, value, there)
        elif spec.shape == "children":
            wanted |= _children(name, spec, value, there, new_id)
        else:
            raise PatchInvalid(_pointer(name), "A counter is added to by devices alone.")
    return {path: value for path, value in wanted.items() if path not in there or _differs(path, value, there)}


def position(index: int) -> str:
    """Return a fractional index: "c" says that three digits follow, so that apps' libraries find room between any two."""
    digits = ""
    for _ in range(3):
        index, digit = divmod(index, 62)
        digits = _BASE_62[digit] + digits
    return f"c{digits}"


def _set(name: str, value: Any, there: Mapping[str, Any]) -> dict[str, Any]:
    elements = [] if value is None else value
    if not isinstance(elements, list) or any(not isinstance(element, str) for element in elements):
        raise PatchInvalid(_pointer(name), "This is a list of strings.")
    wanted: dict[str, Any] = {
        path: False for path, is_in in there.items() if path.startswith(f"{name}/") and is_in is True
    }
    return wanted | {f"{name}/{escaped(element)}": True for element in elements}


def _children(
    name: str, spec: Field, value: Any, there: Mapping[str, Any], new_id: Callable[[], str]
) -> dict[str, Any]:
    given = [] if value is None else value
    if not isinstance(given, list) or any(not isinstance(child, dict) for child in given):
        raise PatchInvalid(_pointer(name), "This is a list of objects.")
    if len(given) > MAX_PATHS:
        raise PatchInvalid(_pointer(name), f"A document has {MAX_PATHS} paths at most, and each of these takes one.")
    known = {path.split("/")[1] for path in there if path.startswith(f"{name}/")}
    wanted: dict[str, Any] = {}
    named: set[str] = set()
    for index, child in enumerate(given):
        child_id = child.get("id") or new_id()
        if not changes.is_uuid(child_id):
            raise PatchInvalid(_pointer(name, str(index), "id"), "This is a lower-case UUID.")
        if child_id in named:
            raise PatchInvalid(_pointer(name, str(index), "id"), "Two of the list have this id.")
        named.add(child_id)
        members: dict[str, Any] = {"pos": position(index)} if "pos" in (spec.fields or {}) else {}
        members |= {field: item for field, item in child.items() if field != "id"}
        if there.get(f"{name}/{child_id}/deleted") is True:
            members.setdefault("deleted", False)
        wanted |= {f"{name}/{child_id}/{escaped(field)}": item for field, item in members.items()}
    for child_id in known - named:
        wanted[f"{name}/{child_id}/deleted"] = True
    return wanted


def _differs(path: str, value: Any, there: Mapping[str, Any]) -> bool:
    try:
        return not values.same(values.from_wire(value), there[path])
    except ValueInvalid:
        return True  # and refused, with its reason, when it is checked


def _pointer(*names: str) -> str:
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)
