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
NetworkType = Literal["bridge", "overlay"]
# Nobody's, so that it is neither Swarm's, nor flannel's, nor one that a cloud keeps to itself.
VXLAN_PORT = 14789


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
    anti_spoof: bool = False
    egress_rate: int | None = None
    ingress_rate: int | None = None
    burst: int | None = None
    type: NetworkType = "bridge"
    name: str = ""
    vni: int | None = None
    peers: tuple[str, ...] = ()
    vtep: str = ""
    vxlan_port: int = VXLAN_PORT
    multicast: bool = True
    encrypted: bool = False
    dns: bool = False


@dataclass(frozen=True)
class EndpointOptions:
    """The driver options of an endpoint (`docker network connect --driver-opt`), as far as they are ours."""

    egress_rate: int | None = None
    ingress_rate: int | None = None
    burst: int | None = None


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


def _parse_type(text: str) -> str:
    if text not in get_args(NetworkType):
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
    Option(
        "anti_spoof",
        "anti_spoof",
        values.parse_bool,
        _BOOL,
        "false",
        "Containers send from their own MAC and IP addresses only, in ARP and ND too, and play neither router nor DHCP"
        " server. IPv6 link-local addresses other than that of the MAC do not work.",
    ),
    Option(
        "egress_rate",
        "egress_rate",
        values.parse_rate,
        "bits a second such as 10mbit, from 64kbit",
        "unlimited",
        "What may leave: of a network, what its containers together send out of it; with --driver-opt of `docker"
        " network connect`, what that container sends, which then does not count in its network's rate.",
    ),
    Option(
        "ingress_rate",
        "ingress_rate",
        values.parse_rate,
        "bits a second such as 10mbit, from 64kbit",
        "unlimited",
        "The same for what comes in.",
    ),
    Option(
        "burst",
        "burst",
        values.parse_burst,
        "bytes such as 64k",
        "10 ms worth",
        "What may pass at once after a pause, where a rate is set.",
    ),
    Option(
        "type",
        "type",
        _parse_type,
        "bridge or overlay",
        "bridge",
        "Whether the network ends at its host, or is one with those of its peers, over VXLAN.",
    ),
    Option(
        "name",
        "name",
        values.parse_name,
        "up to 63 letters, digits, `_`, `.`, `-`",
        "none",
        "Overlay: what the hosts call the network. The VNI is made of it unless `vni` is given.",
    ),
    Option("vni", "vni", values.parse_vni, "1 to 16777215", "made of the name", "Overlay: the same on every host."),
    Option(
        "peers",
        "peers",
        values.parse_peers,
        "IP addresses of one family, separated by commas",
        "none",
        "Overlay: its hosts. This one may be among them, so that the list is the same everywhere. Without it etcd"
        " says who they are (PYNET_CLUSTER).",
    ),
    Option(
        "vtep",
        "vtep",
        values.parse_vtep,
        "an IP address of the host",
        "the one in `peers`, or that of the way to them",
        "Overlay: the address by which peers know this host.",
    ),
    Option(
        "vxlan_port",
        "vxlan_port",
        values.parse_port,
        "1 to 65535",
        str(VXLAN_PORT),
        "Overlay: UDP port of its packets, the same on every host.",
    ),
    Option(
        "multicast",
        "multicast",
        values.parse_switch,
        "on or off",
        "on",
        "Overlay: whether broadcast and multicast pass between hosts; ARP and neighbour discovery do in any case.",
    ),
    Option(
        "dns",
        "dns",
        values.parse_bool,
        _BOOL,
        "false",
        "Overlay with etcd: the gateway answers DNS for the names of containers on all hosts. Containers ask it by"
        " `--dns GATEWAY`.",
    ),
    Option(
        "encrypted",
        "encrypted",
        values.parse_bool,
        _BOOL,
        "false",
        "Overlay with etcd: packets between hosts are encrypted by WireGuard; the same on every host. Its MTU is 80"
        " bytes less than without.",
    ),
)

_BY_KEY = {option.key: option for option in OPTIONS}
_OF_ENDPOINT = {key: _BY_KEY[key] for key in EndpointOptions.__dataclass_fields__}


def parse_options(given: Mapping[str, Any]) -> NetworkOptions:
    """Return the options of a network.

    Unknown keys under com.docker.network. are for other drivers or newer versions: logged, and accepted as Docker does.

    Raises: BadRequest: another unknown key, with the nearest known one, or a value that the key does not accept.
    """
    return NetworkOptions(**_parse(given, _BY_KEY))


def parse_endpoint_options(given: Mapping[str, Any]) -> EndpointOptions:
    """Return the options of an endpoint.

    Raises: BadRequest: an unknown key, with the nearest known one, or a value that the key does not accept.
    """
    return EndpointOptions(**_parse(given, _OF_ENDPOINT))


def _parse(given: Mapping[str, Any], known: Mapping[str, Option]) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for key, value in given.items():
        option = known.get(key)
        if option is None:
            _check_unknown(key, known)
            continue
        try:
            parsed[option.field] = option.parse(str(value))
        except ValueError as exc:
            raise BadRequest(f"cannot use -o {key}={value}: it takes {option.accepts}") from exc
    return parsed


def _check_unknown(key: str, known: Mapping[str, Option]) -> None:
    # The engine's own switches, which it also passes on.
    if key in ("com.docker.network.enable_ipv4", "com.docker.network.enable_ipv6"):
        return
    if key.startswith("com.docker.network."):
        log.warning("option %s is not one of this driver's; it has no effect", key)
        return
    # People forget the prefix more often than they mistype a word.
    by_last_word = {name.rpartition(".")[2]: name for name in known}
    near = difflib.get_close_matches(key.rpartition(".")[2], by_last_word, n=1, cutoff=0.0)
    raise BadRequest(f"cannot use -o {key}: there is no such option; the nearest is {by_last_word[near[0]]}")


def describe_options() -> str:
    """Return the table as Markdown, one row an option."""
    rows = ["| option | accepts | default | meaning |", "|---|---|---|---|"]
    rows += [f"| `{option.key}` | {option.accepts} | {option.default} | {option.help} |" for option in OPTIONS]
    return "\n".join(rows) + "\n"
