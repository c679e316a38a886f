"""What a client may ask of a network, checked before anyone is asked. Pure.

Source: moby api/types/network, ValidateIPAM.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from typing import Any

from runtime.errors import BadParameter, Unsupported
from runtime.networks.records import Network, Ports

NAME = re.compile(r"(?!\.{1,2}$)[^/\s\x00-\x1f\x7f]([^/\x00-\x1f\x7f]{0,253}[^/\s\x00-\x1f\x7f])?")
GENERIC = "com.docker.network.generic"
PORT_MAP, EXPOSED = "com.docker.network.portmap", "com.docker.network.endpoint.exposedports"
# How often an address is announced, and every how many milliseconds; the defaults of dockerd.
ADVERTISE = {"com.docker.network.advertise_addr_nmsgs": "3", "com.docker.network.advertise_addr_ms": "1000"}
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
NO_CLUSTER = ("Ingress", "ConfigOnly", "ConfigFrom")


def check_network(body: dict[str, Any]) -> str:
    """Return the name of a network that may be created.

    Raises: BadParameter; Unsupported.
    """
    name = body.get("Name") or ""
    if not NAME.fullmatch(name):
        raise BadParameter(
            f"cannot create network {name!r}: a name has 1 to 255 characters that are seen, and no /; rename it"
        )
    config_from = body.get("ConfigFrom") or {}
    for key in NO_CLUSTER:
        if body.get(key) and (key != "ConfigFrom" or config_from.get("Network")):
            raise Unsupported(f"cannot create network {name}: pyrun has no {key}; leave it away")
    if (body.get("Scope") or "local") != "local":
        raise Unsupported(f"cannot create network {name}: pyrun has no scope {body['Scope']}; use local")
    if body.get("EnableIPv4") is False and not body.get("EnableIPv6"):
        raise BadParameter(f"cannot create network {name}: IPv4 or IPv6 must be enabled; enable one")
    for key in ADVERTISE:
        if not re.fullmatch(r"\d{1,5}", str((body.get("Options") or {}).get(key, "0")), re.ASCII):
            raise BadParameter(f"cannot create network {name}: option {key} is no small number; write one")
    for entry in (body.get("IPAM") or {}).get("Config") or []:
        try:
            _check_config(entry)
        except (ValueError, TypeError) as exc:
            raise BadParameter(f"cannot create network {name}: {exc}; correct the subnet's settings") from exc
    return str(name)


def _check_config(entry: dict[str, Any]) -> None:
    if not entry.get("Subnet"):
        if entry.get("IPRange") or entry.get("Gateway") or entry.get("AuxiliaryAddresses"):
            raise ValueError("an ip-range, gateway or aux-address needs a subnet")
        return
    subnet = ipaddress.ip_network(entry["Subnet"])
    if sub_pool := entry.get("IPRange"):
        inner = ipaddress.ip_network(sub_pool)
        if inner.version != subnet.version or not inner.subnet_of(subnet):  # type: ignore[arg-type]
            raise ValueError(f"ip-range {inner} is not in subnet {subnet}")
    for address in (entry.get("Gateway"), *(entry.get("AuxiliaryAddresses") or {}).values()):
        if address and ipaddress.ip_address(address) not in subnet:
            raise ValueError(f"address {address} is not in subnet {subnet}")


def configs(body: dict[str, Any], v6: bool) -> list[dict[str, Any]]:
    """Return the IPAM settings of one family."""
    entries = (body.get("IPAM") or {}).get("Config") or []
    return [entry for entry in entries if entry.get("Subnet") and (":" in entry["Subnet"]) == v6]


def network_options(network: Network) -> dict[str, Any]:
    """Return the Options of CreateNetwork and GwAllocCheck."""
    return {
        GENERIC: network.options,
        "com.docker.network.enable_ipv4": network.body.get("EnableIPv4") is not False,
        "com.docker.network.enable_ipv6": bool(network.body.get("EnableIPv6")),
    } | ({"com.docker.network.internal": True} if network.internal else {})


def check_wish(network: str, wish: dict[str, Any]) -> None:
    """What a container wishes of a network can be had.

    Raises: BadParameter; Unsupported.
    """
    config = wish.get("IPAMConfig") or {}
    for key, version in (("IPv4Address", 4), ("IPv6Address", 6)):
        try:
            if config.get(key) and ipaddress.ip_address(config[key]).version != version:
                raise ValueError(f"{config[key]} is not of its family")
        except ValueError as exc:
            raise BadParameter(f"cannot connect to network {network}: {exc}; choose another address") from exc
    if mac := wish.get("MacAddress"):
        if not re.fullmatch(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}", mac):
            raise BadParameter(
                f"cannot connect to network {network}: {mac!r} is no MAC address; write 02:42:0a:00:00:02"
            )
        if int(mac[:2], 16) & 1:
            raise BadParameter(
                f"cannot connect to network {network}: {mac} is a group's address; its first byte is even"
            )
    link_local(network, wish)
    if wish.get("Links"):
        raise Unsupported(f"cannot connect to network {network}: pyrun has no Links; leave them away")


def link_local(network: str, wish: dict[str, Any]) -> tuple[str, ...]:
    """Return the wished link-local addresses, CIDR with the prefix lengths that dockerd gives them.

    Raises: BadParameter.
    """
    try:
        found = [ipaddress.ip_address(text) for text in (wish.get("IPAMConfig") or {}).get("LinkLocalIPs") or []]
    except ValueError as exc:
        raise BadParameter(f"cannot connect to network {network}: {exc}; choose another link-local address") from exc
    return tuple(f"{address}/{16 if address.version == 4 else 64}" for address in found)


def endpoint_options(wish: dict[str, Any], ports: Ports, dns: tuple[str, ...], internal: bool) -> dict[str, Any]:
    """Return the Options of CreateEndpoint."""
    options: dict[str, Any] = {str(key): str(value) for key, value in (wish.get("DriverOpts") or {}).items()}
    if mac := wish.get("MacAddress"):
        # As Go writes bytes.
        raw = bytes.fromhex(re.sub("[:-]", "", mac))
        options["com.docker.network.endpoint.macaddress"] = base64.b64encode(raw).decode()
    if not internal:
        options |= port_options(ports) | ({"com.docker.network.endpoint.dnsservers": list(dns)} if dns else {})
    return options


def port_options(ports: Ports) -> dict[str, Any]:
    """Return the port map and the exposed ports, as Join and ProgramExternalConnectivity have them.

    Raises: BadParameter.
    """
    exposed, bindings = [], []
    for key, wanted in sorted(ports.items()):
        number, _, protocol = key.partition("/")
        try:
            proto, port = PROTOCOLS[protocol or "tcp"], _port(number)
            exposed.append({"Proto": proto, "Port": port})
            for binding in wanted or []:
                first, _, last = (binding.get("HostPort") or "0").partition("-")
                host = str(ipaddress.ip_address(binding["HostIp"])) if binding.get("HostIp") else ""
                bindings.append({"Proto": proto, "IP": "", "Port": port, "HostIP": host,
                                 "HostPort": _port(first), "HostPortEnd": _port(last or first)})  # fmt: skip
        except (KeyError, ValueError) as exc:
            raise BadParameter(
                f"cannot publish port {key}: {exc}; write it as 80/tcp, with a host port to 65535"
            ) from exc
    return {PORT_MAP: bindings, EXPOSED: exposed}


def one_by_one(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the bindings that a driver told, of each run (PortEnd) every port for itself."""
    return [
        each | {"Port": port, "HostPort": each["HostPort"] + n, "HostPortEnd": each["HostPort"] + n} for each in told
        for n, port in enumerate(range(each["Port"], each.get("PortEnd", each["Port"]) + 1))
    ]  # fmt: skip


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise ValueError(f"invalid port {text!r}")
    return int(text)
