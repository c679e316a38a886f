"""A container's network namespace: links moved in and out, addresses, routes, announcements. The only user of netlink.

A thread that has entered a namespace ends there; sockets that it opened stay in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from runtime.errors import Failed

Result = TypeVar("Result")
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
NODAD = 0x02
SCOPE_LINK = 253
SYSCTLS = Path("/proc/sys/net")


@dataclass(frozen=True)
class Route:
    """A route by way of `gateway`, or on the link if that is empty."""

    destination: str
    gateway: str = ""


@dataclass(frozen=True)
class Interface:
    """What a link is to become in a namespace. addresses: CIDR."""

    link: str
    prefix: str
    mac: str = ""
    addresses: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()


class Gone(Failed):
    """The namespace has ended, with all links in it."""


def inside(netns: Path, function: Callable[[], Result]) -> Result:
    """Return what `function` returns, called in the network namespace.

    Raises: Gone; what `function` raises.
    """

    def entered() -> Result:
        try:
            with netns.open("rb") as namespace:
                if LIBC.setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        except OSError as exc:
            raise Gone(f"cannot enter network namespace {netns}: {exc}; does the container still run?") from exc
        return function()

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="netns") as thread:
        return thread.submit(entered).result()


def loopback_up(netns: Path) -> None:
    """The namespace's loopback is up."""
    inside(netns, lambda: _set_up("lo"))


def adopt(netns: Path, wanted: Interface) -> str:
    """The host's link is in the namespace, up, with its addresses and routes; return its name there.

    Raises: Failed: the link is on the host again, if there was one.
    """
    with _netlink(f"move {wanted.link} into {netns}") as netlink:
        index = _index(netlink, wanted.link)
        with netns.open("rb") as namespace:
            netlink.link("set", index=index, net_ns_fd=namespace.fileno())
    try:
        return inside(netns, lambda: _furnish(wanted))
    except BaseException:
        release(netns, wanted.link, wanted.link)
        raise


def release(netns: Path, ifname: str, link: str) -> None:
    """The link `ifname` of the namespace is on the host as `link`, down; or gone, as the namespace may be."""
    with Path("/proc/thread-self/ns/net").open("rb") as home, contextlib.suppress(Gone):
        inside(netns, lambda: _hand_back(ifname, link, home.fileno()))


def set_default_route(netns: Path, gateway: str, v6: bool, ifname: str) -> None:
    """The namespace's default route of that family leads to the gateway; without one there is none."""
    family = socket.AF_INET6 if v6 else socket.AF_INET

    def change() -> None:
        with _netlink("set the default route") as netlink:
            for route in list(netlink.get_default_routes(family=family)):
                if not v6 or route.get_attr("RTA_GATEWAY"):
                    netlink.flush_routes(family=family, dst_len=0, oif=route.get_attr("RTA_OIF"))
            if gateway:
                netlink.route("replace", dst="default", family=family, gateway=gateway, oif=_index(netlink, ifname))

    inside(netns, change)


def host_subnets() -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Return what this machine has routes to, default routes apart, and where its name servers are."""
    found = set()
    with _netlink("list routes") as netlink:
        for family, zero in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104
            for route in netlink.get_routes(family=family, table=254):
                if length := route["dst_len"]:
                    found.add(ipaddress.ip_network(f"{route.get_attr('RTA_DST') or zero}/{length}", strict=False))
    return list(found)


def announce(
    netns: Path, ifname: str, mac: str, addresses: tuple[str, ...], times: int = 3, every_s: float = 1.0
) -> None:
    """In the background, neighbours are told so many `times` that the addresses are at this MAC address."""
    own = bytes.fromhex(mac.replace(":", ""))
    frames = [_announcement(own, ipaddress.ip_address(address.partition("/")[0])) for address in addresses]

    def speak() -> None:
        try:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
                wire.bind((ifname, 0))
                for turn in range(times):
                    time.sleep(every_s if turn else 0)
                    for frame in frames:
                        wire.send(frame)
        except OSError:
            return  # the link has left meanwhile

    def begin() -> None:
        threading.Thread(target=speak, name="announce", daemon=True).start()

    inside(netns, begin)


def _announcement(mac: bytes, address: IPv4Address | IPv6Address) -> bytes:
    """Return the frame: an ARP reply nobody asked for (RFC 826), or an unsolicited NA (RFC 4861, 4.4)."""
    if isinstance(address, IPv4Address):
        arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + address.packed + b"\xff" * 6 + address.packed
        return b"\xff" * 6 + mac + b"\x08\x06" + arp
    everyone = IPv6Address("ff02::1").packed
    advertisement = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + address.packed + b"\x02\x01" + mac
    pseudo = address.packed + everyone + struct.pack("!II", len(advertisement), 58)
    total = sum(struct.unpack(f"!{(len(pseudo) + len(advertisement)) // 2}H", pseudo + advertisement))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    advertisement = advertisement[:2] + struct.pack("!H", checksum) + advertisement[4:]
    header = struct.pack("!IHBB", 6 << 28, len(advertisement), 58, 255) + address.packed + everyone
    return b"\x33\x33\x00\x00\x00\x01" + mac + b"\x86\xdd" + header + advertisement


def _furnish(wanted: Interface) -> str:
    with _netlink(f"set up {wanted.link} in its namespace") as netlink:
        index = _index(netlink, wanted.link)
        names = {message.get_attr("IFLA_IFNAME") for message in netlink.get_links()}
        name = next(name for number in count() if (name := f"{wanted.prefix}{number}") not in names)
        netlink.link("set", index=index, state="down")
        netlink.link("set", index=index, ifname=name, **({"address": wanted.mac} if wanted.mac else {}))
        try:
            _address(netlink, index, name, wanted)
        except (NetlinkError, OSError):
            netlink.link("set", index=index, state="down")
            netlink.link("set", index=index, ifname=wanted.link)
            raise
        return name


def _address(netlink: IPRoute, index: int, name: str, wanted: Interface) -> None:
    has6 = any(":" in address for address in wanted.addresses)
    _write(SYSCTLS / "ipv6/conf" / name / "disable_ipv6", "0" if has6 else "1")
    for cidr in wanted.addresses:
        address, _, length = cidr.partition("/")
        # Nobody else has it: IPAM says so, and a container must not wait for the kernel to find out.
        more: dict[str, Any] = {"IFA_FLAGS": NODAD, "flags": NODAD}
        if ":" not in address:
            more = {"broadcast": str(ipaddress.IPv4Interface(cidr).network.broadcast_address)}
        netlink.addr("add", index=index, address=address, prefixlen=int(length), **more)
    netlink.link("set", index=index, state="up")
    for route in wanted.routes:
        way: dict[str, Any] = {"gateway": route.gateway} if route.gateway else {}
        if not route.gateway and ":" not in route.destination:
            way = {"scope": SCOPE_LINK}
        netlink.route("add", dst=route.destination, oif=index, **way)


def _hand_back(ifname: str, link: str, home: int) -> None:
    with _netlink(f"take {ifname} out of its namespace") as netlink:
        try:
            index = _index(netlink, ifname)
        except NetlinkError as exc:
            if exc.code == errno.ENODEV:
                return
            raise
        netlink.link("set", index=index, state="down")
        netlink.link("set", index=index, ifname=link)
        netlink.link("set", index=index, net_ns_fd=home)


def _set_up(name: str) -> None:
    with _netlink(f"set {name} up") as netlink:
        netlink.link("set", index=_index(netlink, name), state="up")


def _index(netlink: IPRoute, name: str) -> int:
    return int(netlink.link("get", ifname=name)[0]["index"])


def _write(path: Path, value: str) -> None:
    # A kernel without IPv6 has no such file, and nothing to switch off.
    if path.exists():
        path.write_text(value)


@contextmanager
def _netlink(what: str) -> Iterator[IPRoute]:
    """A socket in the thread's namespace; the kernel's refusal is an ApiError."""
    try:
        with IPRoute() as netlink:
            yield netlink
    except (NetlinkError, OSError) as exc:
        code = exc.code if isinstance(exc, NetlinkError) else exc.errno or 0
        raise Failed(f"cannot {what}: {os.strerror(code)}; see the driver's log and ip link") from exc
