"""Refused changes, lost values and repair over HTTP: what is shown, in pages, to whom, and what is refused."""

import json
from base64 import urlsafe_b64encode
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from sync import clock
from sync.changes import MAX_CHANGES
from sync.document import MAX_PATHS
from tests.fitness_api.client import Json
from tests.fitness_api.test_routes_sync import STAMP, Account, account_of, change
from tests.fitness_api.test_routes_sync import ada as ada  # noqa: PLC0414 - a fixture

MSGPACK = "application/msgpack"


def later(counter: int = 1, replica: int = 5) -> str:
    return clock.to_wire(clock.Stamp(1_700_000_000_000 << 21 | counter << 12 | replica))


async def get(account: Account, path: str, **more: Any) -> httpx.Response:
    headers = {**account.headers, **more.pop("headers", {})}
    return await account.api.get(f"/v1/sync/{path}", params=more, headers=headers)


async def post(account: Account, path: str, body: Any = None) -> httpx.Response:
    given = {} if body is None else {"json": body}
    return await account.api.post(f"/v1/sync/{path}", headers=account.headers, **given)


async def listed(account: Account, path: str, **more: Any) -> Json:
    answer = await get(account, path, **more)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def all_pages(account: Account, path: str, *, limit: int) -> tuple[list[Json], int]:
    entries: list[Json] = []
    cursor, pages = None, 0
    while pages == 0 or cursor:
        page = await listed(account, path, limit=limit, **({"cursor": cursor} if cursor else {}))
        assert len(page[path]) <= limit
        entries += page[path]
        cursor, pages = page["cursor"], pages + 1
    return entries, pages


# --- refused changes


async def test_a_refused_change_is_shown_as_it_was_sent(ada: Account) -> None:
    assert await listed(ada, "rejected") == {"rejected": [], "cursor": None}
    sent = change(title="x", **{"new/a": [1, 2.5, None, {"é": "\U0001f600"}]}) | {"collection": "horses", "more": 1}
    result = (await ada.sync(sent)).json()["results"][0]
    [entry] = (await listed(ada, "rejected"))["rejected"]
    assert entry.pop("received_at").endswith("Z")
    assert entry == {
        "id": sent["id"], "change_id": sent["id"], "device_id": ada.device_id, "code": result["code"],
        "detail": result["detail"], "change": sent,
    }  # fmt: skip
    packed = change(title="y") | {"collection": "horses"}
    body = msgspec.msgpack.encode({"device_id": ada.device_id, "changes": [packed]})
    await ada.send(body, **{"content-type": MSGPACK})
    # What came as msgpack is shown in JSON, and the other way round.
    newest = (await listed(ada, "rejected"))["rejected"][0]
    assert newest["change"] == packed
    answer = await get(ada, "rejected", headers={"accept": MSGPACK})
    assert answer.headers["content-type"] == MSGPACK
    assert [one["change"] for one in msgspec.msgpack.decode(answer.content)["rejected"]] == [packed, sent]


AWKWARD: list[tuple[str, bytes]] = [
    ("json", b'{"id":"%s","set":{"title":"\xff"}}'),
    ("json", b'{"id":"%s","set":{"title":1e400}}'),
    ("json", b'{"id":"%s","set":{"title":123456789012345678901234567890}}'),
    ("json", b'{"id":"%s","set":{"title":18446744073709551616}}'),
    ("json", b'{"id":"%s","set":{"title":"\\u0000"}}'),
    ("json", b'{"id":"%s","x":' + b"[" * 900 + b"]" * 900 + b"}"),
    ("json", b"null"),
    ("json", b'"\\ud800"'),
    ("json", b"5"),
    ("msgpack", b"\x82\xa2id\xd9\x24%s\xa3set\x81\x01\x02"),
    ("msgpack", b"\x82\xa2id\xd9\x24%s\xa3set\x81\xa1x\xc4\x02\xff\x00"),
    ("msgpack", b"\x82\xa2id\xd9\x24%s\xa3set\x81\xa1x\xd4\x05\x00"),
    ("msgpack", b"\x82\xa2id\xd9\x24%s\xa3set\x81\xa1x\xd6\xff\x00\x00\x00\x00"),
    ("msgpack", b"\x82\xa2id\xd9\x24%s\xa3set\x81\xa1x\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"),
    ("msgpack", b"\x82\xa2id\xd9\x24%s\xa3set\x81\xa1x\xa1\xff"),
    ("msgpack", b"\x82\xa2id\xd9\x24%s\xa3set\x81\xa1x\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
    ("msgpack", b"\x82\xa2id\xd9\x24%s\xa3set\x81\x91\x01\x02"),
    ("msgpack", b"\xc0"),
]


async def test_whatever_was_refused_can_be_shown(ada: Account) -> None:
    """In either format; where it is none of JSON's, as text."""
    for sent_as, template in AWKWARD:
        raw = template.replace(b"%s", str(uuid4()).encode())
        if sent_as == "json":
            body = b'{"device_id":"%s","changes":[' % ada.device_id.encode() + raw + b"]}"
        else:
            body = b"\x82\xa9device_id\xd9\x24" + ada.device_id.encode() + b"\xa7changes\x91" + raw
        answer = await ada.send(body, **{"content-type": f"application/{sent_as}"})
        assert answer.status_code == 200, answer.text
        assert [one["status"] for one in (await _decoded(answer))["results"]] == ["rejected"]
        for accept in ("application/json", MSGPACK):
            shown = await get(ada, "rejected", headers={"accept": accept})
            assert shown.status_code == 200, raw
    entries = (await listed(ada, "rejected"))["rejected"]
    assert len(entries) == len(AWKWARD)
    for entry in entries:
        assert ("change" in entry) is not ("raw" in entry)
    assert 3 < sum("raw" in entry for entry in entries) < len(entries) - 3


async def test_a_lone_surrogate_is_kept_and_shown_as_it_came(ada: Account) -> None:
    """Also where two changes of one id differ in it alone: they are two."""
    name = str(uuid4())
    sent = [json.dumps({"id": name, "set": {"title": text}}) for text in ("\ud800", "\udfff", "\U0001f600\ud83d")]
    await ada.send(f'{{"device_id":"{ada.device_id}","changes":[{",".join(sent)}]}}'.encode())
    entries = (await listed(ada, "rejected"))["rejected"]
    assert sorted(entry["raw"] for entry in entries) == sorted(sent)
    assert {entry["change_id"] for entry in entries} <= {name, None}


async def _decoded(answer: httpx.Response) -> Json:
    is_packed = answer.headers["content-type"] == MSGPACK
    found: Json = msgspec.msgpack.decode(answer.content) if is_packed else answer.json()
    return found


@pytest.mark.parametrize("accept", ["application/json", MSGPACK])
async def test_no_depth_of_a_refused_change_hides_the_list(ada: Account, accept: str) -> None:
    """Decoding, showing and answering are not equally deep: what passes one may not pass the next."""

    async def is_shown(depth: int) -> bool:
        raw = b'{"id":"%s","x":' % str(uuid4()).encode() + b"[" * depth + b"]" * depth + b"}"
        sent = await ada.send(b'{"device_id":"%s","changes":[' % ada.device_id.encode() + raw + b"]}")
        if sent.status_code == 400:
            return False  # too deep for a body already
        answer = await get(ada, "rejected", limit=1, headers={"accept": accept})
        assert answer.status_code == 200, depth
        return "change" in (await _decoded(answer))["rejected"][0]

    shown, hidden = 50, 1_100
    assert (await is_shown(shown), await is_shown(hidden)) == (True, False)
    while hidden - shown > 8:
        middle = (shown + hidden) // 2
        shown, hidden = (middle, hidden) if await is_shown(middle) else (shown, middle)
    for depth in range(shown - 8, hidden + 2):
        await is_shown(depth)


async def test_refused_changes_come_in_pages_the_newest_first(ada: Account) -> None:
    sent = [change(n=n) | {"collection": "horses"} for n in range(7)]
    for begin in (0, 3, 5):
        await ada.sync(*sent[begin : (begin + 3 if begin < 5 else 7)])
    whole = (await listed(ada, "rejected"))["rejected"]
    assert {one["id"] for one in whole} == {one["id"] for one in sent}
    assert [one["received_at"] for one in whole] == sorted((one["received_at"] for one in whole), reverse=True)
    for limit in (1, 3, 7, 100):
        assert await all_pages(ada, "rejected", limit=limit) == (whole, -(-7 // limit))


async def test_a_list_of_large_changes_comes_in_short_pages(ada: Account) -> None:
    for _ in range(3):
        await ada.sync(*(change(x="x" * 200_000) for _ in range(5)))
    first = await listed(ada, "rejected")
    assert 3 <= len(first["rejected"]) <= 6
    assert first["cursor"]
    entries, _ = await all_pages(ada, "rejected", limit=100)
    assert len({one["id"] for one in entries}) == len(entries) == 15


async def test_a_full_request_of_refused_changes_is_listed_whole(ada: Account) -> None:
    await ada.sync(*(change() | {"collection": "horses"} for _ in range(MAX_CHANGES)))
    entries, pages = await all_pages(ada, "rejected", limit=100)
    assert (len({one["id"] for one in entries}), len(entries), pages) == (MAX_CHANGES, MAX_CHANGES, MAX_CHANGES // 100)


async def test_a_retried_change_is_merged_and_leaves(ada: Account) -> None:
    doc = str(uuid4())
    full = change(**{f"new/{n}": 1 for n in range(MAX_PATHS)}) | {"doc": doc}
    over = change(title="over") | {"doc": doc, "stamp": later()}
    await ada.sync(full)
    assert (await ada.sync(over)).json()["results"][0]["code"] == "document_full"
    answer = await post(ada, f"rejected/{over['id']}/retry")
    assert answer.status_code == 200
    result = answer.json()["result"]
    assert (result["id"], result["status"], result["code"]) == (over["id"], "rejected", "document_full")
    assert len((await listed(ada, "rejected"))["rejected"]) == 1
    # Deleted, a document takes changes that are of `deleted` alone, as full as it is.
    deleted = change(deleted=True) | {"doc": doc, "stamp": later(2), "id": over["id"]}
    assert (await ada.sync(deleted)).json()["results"][0]["status"] == "applied"
    assert (await listed(ada, "rejected"))["rejected"] == []
    gone = await post(ada, f"rejected/{over['id']}/retry")
    assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


# --- lost values


async def conflicting(ada: Account, count: int = 1) -> list[Json]:
    """Another device's titles, which this one has not seen. Returns the list."""
    docs = [str(uuid4()) for _ in range(count)]
    await ada.sync(*(change(title="theirs", rpe=n) | {"doc": doc} for n, doc in enumerate(docs)))
    await ada.sync(*(change(title="mine") | {"doc": doc, "stamp": later(replica=6), "base": 0} for doc in docs))
    entries, _ = await all_pages(ada, "conflicts", limit=100)
    return entries


async def test_a_lost_value_is_shown_and_brought_back(ada: Account) -> None:
    assert await listed(ada, "conflicts") == {"conflicts": [], "cursor": None}
    [one] = await conflicting(ada)
    assert {name: one[name] for name in ("collection", "path", "lost", "kept", "restored_at")} == {
        "collection": "workouts",
        "path": "title",
        "lost": {"stamp": STAMP, "value": "theirs"},
        "kept": {"stamp": later(replica=6), "value": "mine"},
        "restored_at": None,
    }
    assert one["at"][:4] <= one["expires_at"][:4]
    cursor = (await ada.sync()).json()["cursor"]
    answer = await post(ada, f"conflicts/{one['id']}/restore")
    assert answer.status_code == 200
    assert answer.json() == one | {"restored_at": answer.json()["restored_at"]}
    assert answer.json()["restored_at"].endswith("Z")
    # Every device is given it, as the server's own write.
    [given] = (await ada.sync(cursor=cursor)).json()["documents"]
    assert given["id"] == one["doc"]
    assert [*given["fields"].values()] == [{"title": "theirs"}]
    assert next(iter(given["fields"]))[-3:] == "000"
    again = await post(ada, f"conflicts/{one['id']}/restore")
    assert again.json() == answer.json()
    assert await listed(ada, "conflicts") == {"conflicts": [answer.json()], "cursor": None}


async def test_lost_values_come_in_pages(ada: Account) -> None:
    whole = await conflicting(ada, 7)
    assert len({one["id"] for one in whole}) == 7
    for limit in (1, 3, 7):
        assert await all_pages(ada, "conflicts", limit=limit) == (whole, -(-7 // limit))


async def test_msgpack_shows_the_same(ada: Account) -> None:
    await conflicting(ada, 2)
    whole = await listed(ada, "conflicts")
    answer = await get(ada, "conflicts", headers={"accept": MSGPACK})
    assert msgspec.msgpack.decode(answer.content) == whole
    headers = {**ada.headers, "accept": MSGPACK}
    restored = await ada.api.post(f"/v1/sync/conflicts/{whole['conflicts'][0]['id']}/restore", headers=headers)
    assert msgspec.msgpack.decode(restored.content)["lost"] == whole["conflicts"][0]["lost"]


async def test_a_document_without_room_refuses_the_lost_value(ada: Account) -> None:
    doc = str(uuid4())
    await ada.sync(change(**{"new/0": "x" * 10}) | {"doc": doc})
    big = "y" * 16_000
    await ada.sync(change(**{"new/0": big}) | {"doc": doc, "stamp": later(1, 6)})
    await ada.sync(change(**{"new/0": "z"}) | {"doc": doc, "stamp": later(2, 7), "base": 0})
    await ada.sync(change(**{f"p{n}": "x" * 16_000 for n in range(16)}) | {"doc": doc, "stamp": later(3)})
    entries = (await listed(ada, "conflicts"))["conflicts"]
    [large] = [one for one in entries if one["lost"]["value"] == big]
    answer = await post(ada, f"conflicts/{large['id']}/restore")
    assert (answer.status_code, answer.json()["code"]) == (409, "document_full")


# --- what is refused, and to whom


WRONG_PLACES: list[dict[str, str]] = [
    {"limit": "0"},
    {"limit": "101"},
    {"limit": "-1"},
    {"limit": "x"},
    {"limit": ""},
    {"limit": "5.0"},
    {"limit": "٣"},
    {"cursor": "x"},
    {"cursor": "é"},
    {"cursor": urlsafe_b64encode(b"5").decode()},
    {"cursor": urlsafe_b64encode(b"x/" + str(uuid4()).encode()).decode()},
    {"cursor": urlsafe_b64encode(b"5/no uuid").decode()},
    {"cursor": urlsafe_b64encode(b"9" * 30 + b"/" + str(uuid4()).encode()).decode()},
    {"cursor": urlsafe_b64encode(b"9" * 5_000 + b"/" + str(uuid4()).encode()).decode()},
    {"cursor": urlsafe_b64encode(b"-5/" + str(uuid4()).encode()).decode()},
    {"cursor": urlsafe_b64encode(b"\xff\xff/").decode()},
]


@pytest.mark.parametrize("path", ["rejected", "conflicts"])
async def test_a_wrong_place_or_limit_is_422(ada: Account, path: str) -> None:
    for asked in WRONG_PLACES:
        answer = await get(ada, path, **asked)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_body"), (asked, answer.text)


async def test_an_unknown_id_is_404(ada: Account) -> None:
    for entry_id in (str(uuid4()), "x", "%00", "..%2F.head", "%F0%9F%98%80", str(uuid4()).upper()):
        for path in (f"rejected/{entry_id}/retry", f"conflicts/{entry_id}/restore"):
            answer = await post(ada, path)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path


async def test_another_accounts_entries_are_not_there(ada: Account) -> None:
    sent = change() | {"collection": "horses"}
    await ada.sync(sent)
    [conflict] = await conflicting(ada)
    eve = await account_of(ada.api, "eve@example.org")
    assert (await listed(eve, "rejected"))["rejected"] == []
    assert (await listed(eve, "conflicts"))["conflicts"] == []
    for path in (f"rejected/{sent['id']}/retry", f"conflicts/{conflict['id']}/restore"):
        answer = await post(eve, path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    # A place in another's list is only a moment.
    page = await listed(ada, "conflicts", limit=1)
    assert page["cursor"] is None
    cursor = urlsafe_b64encode(b"9999999999999/" + sent["id"].encode()).decode().rstrip("=")
    assert (await listed(eve, "rejected", cursor=cursor))["rejected"] == []
    assert len((await listed(ada, "rejected", cursor=cursor))["rejected"]) == 1


async def test_a_token_is_needed(ada: Account) -> None:
    ada.headers = {}
    for path in ("rejected", "conflicts"):
        assert (await get(ada, path)).status_code == 401
    for path in (f"rejected/{uuid4()}/retry", f"conflicts/{uuid4()}/restore", "digest", "fetch"):
        assert (await post(ada, path, {})).status_code == 401
