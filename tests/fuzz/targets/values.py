"""One value after the name of its parser: networks and addresses, sizes, paths, names, rates, references of images."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from netplugin import values as of_networks
from netplugin.ipam.pools import parse_pool_range
from netplugin.ipam.records import Pool
from netplugin.ipam.wire import LOCAL, AddressRequest, PoolRequest, parse_address, parse_ip, parse_pool
from pluginkit.errors import BadRequest
from runtime.errors import BadParameter
from runtime.images.reference import parse_reference
from volplugin import values as of_volumes
from volplugin.capacity import parse_overcommit


def _pool(text: str) -> str:
    subnet, _, ip_range = text.partition(" ")
    pool = parse_pool(PoolRequest(LOCAL, subnet, ip_range))
    for first, last in pool.ranges if pool.subnet else ():
        assert 0 <= first <= last + 1 <= pool.network.num_addresses
    return " ".join(filter(None, (pool.subnet, pool.ip_range)))


def _address(text: str) -> Any:
    return parse_address(AddressRequest("p", text), Pool(LOCAL, "10.0.0.0/29"))


def _size(text: str) -> int:
    size = of_volumes.parse_size(text)
    assert of_volumes.parse_size(of_volumes.format_size(size)) == size
    of_volumes.rough_size(size)
    return size


def _mode(text: str) -> int:
    mode = of_volumes.parse_mode(text)
    assert of_volumes.parse_mode(of_volumes.format_mode(mode)) == mode
    return mode


# What is text again means itself.
SAME: dict[str, Callable[[str], Any]] = {
    "pool": _pool,
    "directory": of_volumes.parse_directory,
    "label": of_volumes.parse_label,
    "label_name": of_volumes.parse_label_name,
    "volume_pool": of_volumes.parse_pool,
    "prefix": of_networks.parse_prefix,
    "interface": of_networks.parse_interface,
    "name": of_networks.parse_name,
    "vtep": of_networks.parse_vtep,
    "reference": parse_reference,
}
PARSERS: dict[str, Callable[[str], Any]] = {
    **SAME,
    "size": _size,
    "mode": _mode,
    "address": _address,
    "ip": parse_ip,
    "pool_range": parse_pool_range,
    "overcommit": parse_overcommit,
    "command": of_volumes.parse_command,
    "percent": of_volumes.parse_percent,
    "period": of_volumes.parse_period,
    "id": of_volumes.parse_id,
    "mount_options": of_volumes.parse_mount_options,
    "local_options": of_volumes.parse_local_options,
    "mkfs_options": of_volumes.parse_mkfs_options,
    "mtu": of_networks.parse_mtu,
    "bool": of_networks.parse_bool,
    "interfaces": of_networks.parse_interfaces,
    "sources": of_networks.parse_sources,
    "routes": of_networks.parse_routes,
    "vni": of_networks.parse_vni,
    "port": of_networks.parse_port,
    "port_range": of_networks.parse_port_range,
    "peers": of_networks.parse_peers,
    "rate": of_networks.parse_rate,
    "burst": of_networks.parse_burst,
}
TEXTS = (
    "10.0.0.0/24 10.0.0.128/25", "fd00::/64", "10.0.0.3", "::ffff:10.0.0.1", "fe80::1%eth0", "1.5GiB", "/srv/../a",
    "//a//b/", "0755", "12h", "8000-8010", "10mbit", "base=10.0.0.0/8,size=24", "ratio:3", "-m 1 -O ^has_journal",
    "noatime,compress=zstd:3", "example.org:5000/a/b:c", "10.1.0.0/16=10.0.0.9",
)  # fmt: skip
SEEDS = tuple(f"{name} {text}".encode() for name in PARSERS for text in TEXTS)
NAMES = tuple(PARSERS)


def one_input(data: bytes) -> None:
    name, _, text = data.decode(errors="surrogateescape").partition(" ")
    if name not in PARSERS:
        name = NAMES[len(name) % len(NAMES)]
    # What is no value is refused with one of these; of the first, callers tell what is accepted instead.
    with suppress(ValueError, BadRequest, BadParameter):
        parsed = PARSERS[name](text)
        assert name not in SAME or SAME[name](parsed) == parsed
