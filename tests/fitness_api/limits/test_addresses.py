from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fitness_api.limits.addresses import MAX_HOPS, UNKNOWN, Blocks, blocks_of, client_of, is_within, networks

TRUSTED = networks("10.0.0.0/8, fd00::/8")
ADDRESSES = st.ip_addresses().map(str)


@pytest.mark.parametrize(
    ("address", "blocks"),
    [
        ("203.0.113.9", Blocks("203.0.113.9/32", "203.0.113.0/24")),
        ("2001:db8:1:2:3:4:5:6", Blocks("2001:db8:1:2::/64", "2001:db8:1::/48")),
        ("::ffff:203.0.113.9", Blocks("203.0.113.9/32", "203.0.113.0/24")),
        ("fe80::1%eth0", Blocks("fe80::/64", "fe80::/48")),
        ("testclient", Blocks(UNKNOWN, UNKNOWN)),
        ("", Blocks(UNKNOWN, UNKNOWN)),
    ],
)
def test_a_client_is_an_address_or_the_block_that_a_household_gets(address: str, blocks: Blocks) -> None:
    assert blocks_of(address) == blocks


@pytest.mark.parametrize(
    ("peer", "header", "client"),
    [
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # not a proxy of ours: what it says of itself is its own
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),  # what stands before was sent by the client
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),  # one of our own machines
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, unknown, 10.0.0.2"], UNKNOWN),
        ("10.0.0.1", ["'; DROP TABLE"], "10.0.0.1"),
        (None, ["198.51.100.1"], UNKNOWN),
    ],
)
def test_the_client_is_the_nearest_that_is_no_proxy_of_ours(peer: str | None, header: list[str], client: str) -> None:
    assert client_of(peer, header, TRUSTED, "x-forwarded-for") == client


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (["for=198.51.100.1"], "198.51.100.1"),
        (['for="198.51.100.1:4711";proto=https;by=10.0.0.1'], "198.51.100.1"),
        (['For="[2001:db8::1]:4711"'], "2001:db8::1"),
        (["for=6.6.6.6, for=198.51.100.1", "for=10.0.0.2"], "198.51.100.1"),
        (["for=_hidden, for=10.0.0.2"], UNKNOWN),
        (["proto=https"], "10.0.0.1"),
    ],
)
def test_forwarded_says_the_same(header: list[str], client: str) -> None:
    assert client_of("10.0.0.1", header, TRUSTED, "forwarded") == client


@given(st.lists(ADDRESSES), st.text(), ADDRESSES)
def test_nothing_that_a_client_sends_changes_whose_request_it_is(made_up: list[str], words: str, own: str) -> None:
    if is_within(own, TRUSTED):
        return
    header = [words, ", ".join([*made_up, own])]
    assert ip_address(client_of("10.0.0.1", header, TRUSTED, "x-forwarded-for")) in {
        ip_address(own),
        getattr(ip_address(own), "ipv4_mapped", None),
    }
    assert client_of(own, header, TRUSTED, "x-forwarded-for") == own


def test_only_so_many_hops_are_looked_at() -> None:
    header = [", ".join(["198.51.100.1", *["10.0.0.2"] * MAX_HOPS])]
    assert client_of("10.0.0.1", header, TRUSTED, "x-forwarded-for") == "10.0.0.2"


def test_blocks_are_read_as_they_are_written() -> None:
    assert networks("") == ()
    assert is_within("::1", networks("127.0.0.0/8,::1"))
    assert is_within("::ffff:127.0.0.1", networks("127.0.0.0/8"))
    assert not is_within("128.0.0.1", networks("127.0.0.0/8,::1"))
    assert not is_within("localhost", networks("0.0.0.0/0"))
    with pytest.raises(ValueError, match="has host bits set"):
        networks("10.0.0.1/8")
