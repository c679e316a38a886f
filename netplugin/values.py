"""Values of options: from what a user typed to what cannot be wrong. Every parser raises ValueError."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from pluginkit.errors import BadRequest

# Loopback needs no entry: what the host itself sends is "localhost", which "lan" includes.
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10")
LOCALHOST = "localhost"
# Below this the kernel's bucket, which holds at most 4.3 s worth of bytes, has no room for a jumbo frame.
LOWEST_RATE = 64_000
_HIGHEST_BURST = (1 << 31) - 1

_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_RATE = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)\s*([kmg]?)(?:bit|bit/s|bps)?", re.IGNORECASE)
_SIZE = re.compile(r"(\d{1,12})\s*([kmg]?)b?", re.IGNORECASE)
_DECIMAL = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3}
_BINARY = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


@dataclass(frozen=True)
class Route:
    """A route for the containers of a network. next_hop "": the destination is on the link."""

    destination: str
    next_hop: str


def parse_mtu(text: str) -> int:
    """Return an MTU; 68 is the least that IPv4 allows."""
    mtu = int(text)
    if not 68 <= mtu <= 65535:
        raise ValueError
    return mtu


def parse_switch(text: str) -> bool:
    """Return whether it says on, as ip(8) does. Raises: ValueError: it says neither on nor off."""
    if text not in ("on", "off"):
        raise ValueError
    return text == "on"


def parse_bool(text: str) -> bool:
    """Return a truth value in the words of Go's strconv.ParseBool, which the built-in driver uses."""
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ValueError


def parse_prefix(text: str) -> str:
    """Return the name of an interface without its number, for which the engine needs up to three more characters."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,11}", text):
        raise ValueError
    return text


def parse_interface(text: str) -> str:
    """Return the name of an interface; 15 characters is the kernel's limit."""
    if not _INTERFACE.fullmatch(text) or text in (".", "..", "all", "default"):
        raise ValueError
    return text


def parse_interfaces(text: str) -> tuple[str, ...]:
    """Return names separated by colons, as the built-in driver has them."""
    return tuple(parse_interface(part) for part in text.split(":") if part)


def parse_sources(text: str) -> tuple[str, ...]:
    """Return networks, and "localhost" for the host itself, from a list separated by commas; () for anybody."""
    sources: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        if part == "any":
            return ()
        if part == LOCALHOST:
            sources.append(LOCALHOST)
        elif part == "lan":
            sources += [LOCALHOST, *PRIVATE]
        else:
            sources.append(str(ip_network(part)))
    return tuple(dict.fromkeys(sources))


def parse_routes(text: str) -> tuple[Route, ...]:
    """Return routes from "DESTINATION [via NEXT-HOP]", separated by commas."""
    routes = []
    for part in text.split(","):
        destination, via, next_hop = part.strip().partition(" via ")
        network = ip_network(destination)
        if via and ip_address(next_hop.strip()).version != network.version:
            raise ValueError
        routes.append(Route(str(network), next_hop.strip()))
    return tuple(routes)


def parse_name(text: str) -> str:
    """Return a name by which hosts speak of a network."""
    if not _NAME.fullmatch(text):
        raise ValueError
    return text


def parse_vni(text: str) -> int:
    """Return a VXLAN network identifier; it has 24 bits."""
    vni = int(text, 0)
    if not 1 <= vni < 1 << 24:
        raise ValueError
    return vni


def parse_port(text: str) -> int:
    """Return a port number."""
    port = int(text)
    if not 1 <= port < 1 << 16:
        raise ValueError
    return port


def parse_port_range(text: str) -> range:
    """Return the ports FIRST-LAST.

    Raises: BadRequest: it is no such range.
    """
    try:
        first, last = map(parse_port, text.split("-"))
    except ValueError:
        first, last = 1, 0
    if first > last:
        raise BadRequest(f"cannot use the ports {text}: write FIRST-LAST, such as 49153-60999")
    return range(first, last + 1)


def parse_vtep(text: str) -> str:
    """Return a host's address, as everybody writes it."""
    address = ip_address(text.strip())
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        raise ValueError
    return str(address)


def parse_peers(text: str) -> tuple[str, ...]:
    """Return hosts' addresses of one family, separated by commas."""
    peers = tuple(dict.fromkeys(parse_vtep(part) for part in text.split(",")))
    if len({ip_address(peer).version for peer in peers}) != 1:
        raise ValueError
    return peers


def parse_rate(text: str) -> int:
    """Return bits per second from "10mbit", "1.5gbit", "800k"; prefixes are decimal, as with tc."""
    match = _RATE.fullmatch(text.strip())
    if not match:
        raise ValueError
    rate = int(float(match[1]) * _DECIMAL[match[2].lower()])
    if rate < LOWEST_RATE:
        raise ValueError
    return rate


def parse_burst(text: str) -> int:
    """Return bytes from "64k", "1mb"; prefixes are binary, as with tc."""
    match = _SIZE.fullmatch(text.strip())
    burst = int(match[1]) * _BINARY[match[2].lower()] if match else 0
    if not 0 < burst <= _HIGHEST_BURST:
        raise ValueError
    return burst
