"""The `-o` options of a network: one table, from which parsing, errors and docs/options-pynet.md come."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Literal, get_args

from netplugin import values
from netplugin.values import Route
from pluginkit.errors import BadRequest

log = logging.getLogger(__name__)

GatewayMode = Literal["nat", "nat-unprotected", "routed", "isolated"]


@dataclass(frozen=True)
class NetworkOptions:
    """The options of a network, each under the name of its row in OPTIONS.

    publish_from: (): anybody; otherwise networks, and "localhost".
    """

    mtu: int | None = None
    bridge_name: str = ""
    masquerade: bool = True
    icc: bool = True
    inhibit_ipv4: bool = False
    gateway_mode_ipv4: GatewayMode = "nat"
    gateway_mode_ipv6: GatewayMode = "nat"
    trusted_host_interfaces: tuple[str, ...] = ()
    host_binding_ipv4: IPv4Address | None = None
    host_binding_ipv6: IPv6Address | None = None
    host_ipv4: IPv4Address | None = None
    host_ipv6: IPv6Address | None = None
    interface_prefix: str = "eth"
    publish_from: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()


@dataclass(frozen=True)
class Option:
    """One row: the field it sets, its key on the command line, its parser, what it accepts and does in words."""

    field: str
    key: str
    parse: Callable[[str], Any]
    accepts: str
    default: str
    help: str


def _parse_mode(text: str) -> str:
    if text not in get_args(GatewayMode):
        raise ValueError
    return text


_MODES = "nat, nat-unprotected, routed or isolated"
_BOOL = "true or false"

OPTIONS = (
    Option(
        "mtu",
        "com.docker.network.driver.mtu",
        values.parse_mtu,
        "68 to 65535",
        "of the default route",
        "MTU of the bridge and of the containers' interfaces.",
    ),
    Option(
        "bridge_name",
        "com.docker.network.bridge.name",
        values.parse_interface,
        "up to 15 letters, digits, `_`, `.`, `-`",
        "`pn-` and the ID",
        "Name of the bridge. A bridge that exists already is used, and never deleted.",
    ),
    Option(
        "masquerade",
        "com.docker.network.bridge.enable_ip_masquerade",
        values.parse_bool,
        _BOOL,
        "true",
        "Whether traffic that leaves the network carries the host's address.",
    ),
    Option(
        "icc",
        "com.docker.network.bridge.enable_icc",
        values.parse_bool,
        _BOOL,
        "true",
        "Whether containers of the network reach each other's unpublished ports.",
    ),
    Option(
        "inhibit_ipv4",
        "com.docker.network.bridge.inhibit_ipv4",
        values.parse_bool,
        _BOOL,
        "false",
        "The bridge gets no IPv4 address: the gateway is elsewhere on it.",
    ),
    Option(
        "gateway_mode_ipv4",
        "com.docker.network.bridge.gateway_mode_ipv4",
        _parse_mode,
        _MODES,
        "nat",
        "What the host does for IPv4: translate and let in what is published; translate and let in everything; route,"
        " and let in what is published; nothing at all, without an address on the bridge (with --internal only).",
    ),
    Option(
        "gateway_mode_ipv6",
        "com.docker.network.bridge.gateway_mode_ipv6",
        _parse_mode,
        _MODES,
        "nat",
        "The same for IPv6.",
    ),
    Option(
        "trusted_host_interfaces",
        "com.docker.network.bridge.trusted_host_interfaces",
        values.parse_interfaces,
        "names separated by `:`",
        "none",
        "Interfaces of the host from which containers are reached on any port by their own addresses.",
    ),
    Option(
        "host_binding_ipv4",
        "com.docker.network.bridge.host_binding_ipv4",
        IPv4Address,
        "an IPv4 address",
        "all addresses",
        "Host address on which ports are published when -p names none. Unless host_binding_ipv6 is given too, they are"
        " then published on IPv4 only.",
    ),
    Option(
        "host_binding_ipv6",
        "host_binding_ipv6",
        IPv6Address,
        "an IPv6 address",
        "all addresses",
        "The same for IPv6.",
    ),
    Option(
        "host_ipv4",
        "com.docker.network.host_ipv4",
        IPv4Address,
        "an IPv4 address of the host",
        "of the way out",
        "Address that masqueraded traffic carries.",
    ),
    Option(
        "host_ipv6",
        "com.docker.network.host_ipv6",
        IPv6Address,
        "an IPv6 address of the host",
        "of the way out",
        "The same for IPv6.",
    ),
    Option(
        "interface_prefix",
        "com.docker.network.container_iface_prefix",
        values.parse_prefix,
        "up to 12 letters, digits, `_`, `.`, `-`",
        "eth",
        "Name of the interface in the container, without its number.",
    ),
    Option(
        "publish_from",
        "publish_from",
        values.parse_sources,
        "any, lan, localhost or networks such as 10.0.0.0/8, separated by commas",
        "any",
        "Who may reach published ports. Others do not reach the translation at all, so the host's own firewall decides"
        " about them. lan: private and link-local addresses, and the host.",
    ),
    Option(
        "routes",
        "routes",
        values.parse_routes,
        "`10.1.0.0/16 via 10.9.0.254`, separated by commas; without via it is on the link",
        "none",
        "Static routes in the containers.",
    ),
)

_BY_KEY = {option.key: option for option in OPTIONS}


def parse_options(given: Mapping[str, Any]) -> NetworkOptions:
    """Return the options of a network.

    Unknown keys under com.docker.network. are for other drivers or newer versions: logged, and accepted as Docker does.

    Raises: BadRequest: another unknown key, with the nearest known one, or a value that the key does not accept.
    """
    parsed: dict[str, Any] = {}
    for key, value in given.items():
        option = _BY_KEY.get(key)
        if option is None:
            _check_unknown(key)
            continue
        try:
            parsed[option.field] = option.parse(str(value))
        except ValueError as exc:
            raise BadRequest(f"cannot use -o {key}={value}: it takes {option.accepts}") from exc
    return NetworkOptions(**parsed)


def _check_unknown(key: str) -> None:
    # The engine's own switches, which it also passes on.
    if key in ("com.docker.network.enable_ipv4", "com.docker.network.enable_ipv6"):
        return
    if key.startswith("com.docker.network."):
        log.warning("option %s is not one of this driver's; it has no effect", key)
        return
    near = difflib.get_close_matches(key, _BY_KEY, n=1, cutoff=0.0)
    raise BadRequest(f"cannot use -o {key}: there is no such option; the nearest is {near[0]}")


def describe_options() -> str:
    """Return the table as Markdown, one row an option."""
    rows = ["| option | accepts | default | meaning |", "|---|---|---|---|"]
    rows += [f"| `{option.key}` | {option.accepts} | {option.default} | {option.help} |" for option in OPTIONS]
    return "\n".join(rows) + "\n"
