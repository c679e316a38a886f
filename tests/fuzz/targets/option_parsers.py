"""Lines of KEY=VALUE: the -o options of networks, endpoints and volumes, and changes of a volume's."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from netplugin import options as of_networks
from netplugin.options import parse_endpoint_options
from netplugin.parse import GENERIC, parse_network_options
from pluginkit import wire
from pluginkit.errors import BadRequest
from volplugin import options as of_volumes
from volplugin.options import parse_changes, parse_options, shown

GIB = 1 << 30
VALUES = (
    "true", "64M", "1.5GiB", "overlay", "10.0.0.1", "fd00::1", "10.0.0.1,10.0.0.2", "0755", "7", "8000-8010", "eth0",
    "/srv/a", "noatime,nodev", "-m 1 -L x", "10mbit", "routed", "x", "", "10.0.0.0/8=10.1.0.1", "bind,ro", "loop",
)  # fmt: skip
SEEDS = (
    *(f"{option.key}={value}".encode() for option in of_networks.OPTIONS for value in VALUES[:3]),
    *(f"{option.key}={value}".encode() for option in of_volumes.OPTIONS for value in VALUES[:2]),
    *(f"type=overlay\nname=n\nx={value}".encode() for value in VALUES),
    b"backend=bind\ndevice=/srv/a\ncreate=true\nuid=1\nmode=0755",
    b"size=64M\nfs=xfs\nmkfs_opts=-m crc=1\nmount_opts=noatime\nlabel.a=b\nencrypt=true\nkey_file=/k",
    b"type=none\no=bind,ro\ndevice=/srv/a",
)
KNOWN = parse_options({"label.a": "1"}, GIB)


def one_input(data: bytes) -> None:
    lines = data.decode(errors="replace").split("\n")
    given = dict(line.partition("=")[::2] for line in lines)
    generic: dict[str, Any] = {GENERIC: given}
    with suppress(BadRequest):
        network = parse_network_options(generic)
        assert parse_network_options(generic) == network
        _told(network)
    with suppress(BadRequest):
        _told(parse_endpoint_options(given))
    with suppress(BadRequest):
        volume = parse_options(given, GIB)
        assert parse_options(shown(volume), GIB) == volume, "what inspect shows makes another volume"
        _told(volume)
    with suppress(BadRequest):
        _told(parse_changes(given, KNOWN))


def _told(options: Any) -> None:
    """They can be written to the store."""
    assert wire.decode(wire.encode(options), type(options)) == options
