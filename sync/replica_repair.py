"""The repair of one collection that differs from the server's: which parts differ, then one part after the other, page by page.

    POST /v1/sync/digest ──► the parts (buckets) that differ ──► POST /v1/sync/fetch … more: false ──► next part
                               none: done                          a part is whole: it takes the place of what was held

While a part is fetched, what round trips tell of it is entered here too: a page is as old as its own request.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sync import digest
from sync.document import Key
from sync.replica_state import Register, Registers, merge
from sync.replica_wire import registers_from_wire


class RepairAsk(NamedTuple):
    path: Literal["/v1/sync/digest", "/v1/sync/fetch"]
    body: dict[str, Any]


class Part(NamedTuple):
    """A part as the server has it: to take the place of what the device held of it."""

    bucket: int
    documents: Mapping[Key, Registers]
    seqs: Mapping[Key, int]


class Repair:
    def __init__(self, collection: str) -> None:
        self.collection = collection
        self.differing: list[int] | None = None  # None: not asked yet
        self._after: object = None  # the server's own; None before the first page
        self._documents: dict[Key, Registers] = {}
        self._seqs: dict[Key, int] = {}

    @property
    def is_done(self) -> bool:
        return self.differing == []

    def ask(self) -> RepairAsk:
        if self.differing is None:
            return RepairAsk("/v1/sync/digest", {"collection": self.collection, "buckets": digest.BUCKETS})
        body: dict[str, Any] = {"collection": self.collection, "bucket": self.differing[0]}
        if self._after is not None:
            body["after"] = self._after
        return RepairAsk("/v1/sync/fetch", body)

    def take_digests(self, theirs: Sequence[str], mine: Sequence[int]) -> None:
        sums = zip(theirs, mine, strict=True)
        self.differing = [bucket for bucket, (wire, own) in enumerate(sums) if wire != digest.to_wire(own)]

    def take_page(self, page: Mapping[str, Any]) -> Part | None:
        """Return the part if this was its last page."""
        if self.differing is None:
            raise ValueError("A page comes after the digests.")
        for given in page["documents"]:
            key = Key(given["collection"], given["id"])
            self._seqs[key] = max(given["seq"], self._seqs.get(key, 0))
            for path, register in registers_from_wire(given["fields"]):
                merge(self._documents.setdefault(key, {}), path, register)
        if page["more"]:
            self._after = page["after"]
            return None
        part = Part(self.differing.pop(0), self._documents, self._seqs)
        self._after, self._documents, self._seqs = None, {}, {}
        return part

    def enter(self, key: Key, path: str, register: Register) -> None:
        if self._is_at_hand(key):
            merge(self._documents.setdefault(key, {}), path, register)

    def drop(self, key: Key) -> None:
        self._documents.pop(key, None)
        self._seqs.pop(key, None)

    def _is_at_hand(self, key: Key) -> bool:
        """Whether the document's part is being fetched. What comes before its first page is in that page."""
        if self._after is None or not self.differing or key.collection != self.collection:
            return False
        return digest.bucket_of(key.id) == self.differing[0]
