"""Bodies of requests: read as every request that there is, refused by name or the same again when written and read."""

from __future__ import annotations

from dataclasses import is_dataclass
from types import ModuleType
from typing import Any

import netplugin.admin.wire
import netplugin.ipam.wire
import netplugin.wire
import volplugin.admin.wire
import volplugin.archive.wire
import volplugin.instants.wire
import volplugin.upkeep.wire
import volplugin.wire
from pluginkit import wire
from pluginkit.errors import BadRequest

MODULES: tuple[ModuleType, ...] = (
    netplugin.wire,
    netplugin.ipam.wire,
    netplugin.admin.wire,
    volplugin.wire,
    volplugin.admin.wire,
    volplugin.archive.wire,
    volplugin.instants.wire,
    volplugin.upkeep.wire,
)
REQUESTS: tuple[type[Any], ...] = tuple(
    kind
    for module in MODULES
    for name, kind in sorted(vars(module).items())
    if name.endswith("Request") and is_dataclass(kind)
)
SEEDS = (
    b'{"Name": "v", "Opts": {"size": "64M"}, "ID": "x"}',
    (b'{"NetworkID": "0123456789abcdef", "EndpointID": "0123456789abcdef", "Interface": {"Address": "10.0.0.2/24", '
    b'"AddressIPv6": "fd00::2/64", "MacAddress": ""}, "Options": {"a": [1, {"b": null}]}}'),
    (b'{"NetworkID": "0123456789abcdef", "IPv4Data": [{"AddressSpace": "x", "Pool": "10.0.0.0/24", '
    b'"Gateway": "10.0.0.1/24", "AuxAddresses": {"a": "10.0.0.9/24"}}], "IPv6Data": []}'),
    b'{"PoolID": "p", "Address": "10.0.0.2", "AddressSpace": "pylocal", "V6": true, "SubPool": ""}',
    b'{"Options": {"com.docker.network.portmap": [{"Proto": 6, "IP": "", "Port": 80, "HostPort": 8080}]}}',
    b"[[[[[[[[", b"\xef\xbb\xbf{}", b'{"Name": "\\ud800"}', b'{"Name": 1e999}',
)  # fmt: skip


def one_input(data: bytes) -> None:
    for wanted in REQUESTS:
        try:
            read = wire.decode(data, wanted)
        except BadRequest:
            continue
        assert isinstance(read, wanted)
        assert wire.decode(wire.encode(read), wanted) == read
