"""Whose address a request has, behind proxies too, and which block of addresses counts as one client."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal, NamedTuple

Network = IPv4Network | IPv6Network
ForwardedHeader = Literal["x-forwarded-for", "forwarded"]

# A household or a phone gets a /64 at least (RFC 6177), so that single IPv6 addresses cost nothing; a site gets up to a /48. An IPv4
# address is one household, or thousands behind a carrier's NAT, which is why quotas by address are wide.
CLIENT_BITS: Final = {4: 32, 6: 64}
NETWORK_BITS: Final = {4: 24, 6: 48}
# What a chain of proxies is long at most; what stands before in the header is the client's own invention.
MAX_HOPS: Final = 16

# Of the latest addresses their blocks are known, some 300 bytes each: working them out takes as long as routing does.
MAX_REMEMBERED: Final = 4_096

# Addresses whose blocks are remembered: a client sends many requests, and reading an address takes longer than counting it.
RECENT: Final = 4_096

UNKNOWN: Final = "unknown"  # a Unix socket, or a proxy that names no address: all of them share one quota


class Blocks(NamedTuple):
    client: str
    network: str


def networks(listed: str) -> tuple[Network, ...]:
    """Read a comma-separated list of addresses and CIDR blocks. Raises ValueError."""
    return tuple(ip_network(one.strip()) for one in listed.split(",") if one.strip())


@lru_cache(maxsize=RECENT)
def is_within(address: str, blocks: tuple[Network, ...]) -> bool:
    if not blocks or (ip := _ip(address)) is None:
        return False
    return any(ip.version == block.version and ip in block for block in blocks)


def client_of(peer: str | None, forwarded: Sequence[str], trusted: tuple[Network, ...], header: ForwardedHeader) -> str:
    """Return the nearest address that is not a trusted proxy's.

    forwarded: the values of `header` in the order received. Every proxy appends whom it heard the request from, so the list is read
    from its end, and only as far as those who vouch for it are trusted.
    """
    if peer is None:
        return UNKNOWN
    current = peer
    hops = _x_forwarded_for(forwarded) if header == "x-forwarded-for" else _forwarded(forwarded)
    for hop in reversed(hops[-MAX_HOPS:]):
        if not is_within(current, trusted):
            return current
        address = _address(hop)
        if address is None:
            return UNKNOWN if current != peer else current
        current = address
    return current


@lru_cache(MAX_REMEMBERED)
@lru_cache(maxsize=RECENT)
def blocks_of(address: str) -> Blocks:
    ip = _ip(address)
    if ip is None:
        return Blocks(UNKNOWN, UNKNOWN)
    return Blocks(
        str(ip_network((ip, CLIENT_BITS[ip.version]), strict=False)),
        str(ip_network((ip, NETWORK_BITS[ip.version]), strict=False)),
    )


@lru_cache(MAX_REMEMBERED)
def _ip(address: str) -> IPv4Address | IPv6Address | None:
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    # ::ffff:192.0.2.1 is how a socket for both versions names an IPv4 peer.
    return ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip


def _address(hop: str) -> str | None:
    """Without brackets and port: RFC 7239 section 6, and what proxies write into X-Forwarded-For."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    ip = _ip(hop)
    return None if ip is None else str(ip)


def _x_forwarded_for(values: Sequence[str]) -> list[str]:
    return [hop.strip() for hop in ",".join(values).split(",") if hop.strip()]


def _forwarded(values: Sequence[str]) -> list[str]:
    """The `for` of each element; one without it, or with an obfuscated name, is kept as what it is: no address."""
    hops = []
    for element in ",".join(values).split(","):
        if not element.strip():
            continue
        pairs = (pair.partition("=") for pair in element.split(";"))
        named = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
        hops.append(named.get("for", UNKNOWN))
    return hops
