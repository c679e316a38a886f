"""From requests, which anybody may have written, to records that cannot be wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_address
from typing import Any, TypeVar

import msgspec

from netplugin import wire
from netplugin.options import NetworkOptions, parse_endpoint_options, parse_options
from netplugin.records import Endpoint, Network, Subnet
from pluginkit.errors import BadRequest

N = TypeVar("N", IPv4Network, IPv6Network)
A = TypeVar("A", IPv4Address, IPv6Address)
P = TypeVar("P")

GENERIC = "com.docker.network.generic"
INTERNAL = "com.docker.network.internal"

# 64 hex digits from Docker, 25 letters and digits from swarm. Names of kernel objects are made of the first eight.
_ID = re.compile(r"[0-9A-Za-z]{8,64}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def parse_id(text: str, what: str) -> str:
    """Return `text` if it can be an ID.

    Raises: BadRequest: it cannot.
    """
    if not _ID.fullmatch(text):
        raise BadRequest(f"cannot use {what} ID {text[:80]!r}: it takes 8 to 64 letters and digits")
    return text


def parse_network(request: wire.CreateNetworkRequest) -> Network:
    """Return the network that CreateNetwork asks for.

    Raises: BadRequest: no subnet, an address that is none, a gateway outside of its subnet, a bad option.
    """
    options = request.Options or {}
    subnets4 = _parse_subnets(request.IPv4Data or (), IPv4Network, IPv4Interface)
    subnets6 = _parse_subnets(request.IPv6Data or (), IPv6Network, IPv6Interface)
    if not subnets4 and not subnets6:
        raise BadRequest("cannot create network: it has no subnet; use --subnet or an IPAM driver that gives one")
    return Network(
        id=parse_id(request.NetworkID, "network"),
        subnets4=subnets4,
        subnets6=subnets6,
        internal=bool(options.get(INTERNAL)),
        options=parse_network_options(options),
    )


def parse_network_options(options: Mapping[str, Any]) -> NetworkOptions:
    """Return what a network's `-o` options say together.

    Raises: BadRequest: a bad option, or two that contradict each other.
    """
    generic = options.get(GENERIC) or {}
    if not isinstance(generic, dict):
        raise BadRequest(f"cannot create network: {GENERIC} holds no options but {type(generic).__name__}")
    parsed = parse_options(generic)
    modes = {parsed.gateway_mode_ipv4, parsed.gateway_mode_ipv6}
    if "isolated" in modes and not options.get(INTERNAL):
        raise BadRequest("cannot create network: gateway mode isolated leaves no way out; add --internal")
    if options.get(INTERNAL) and parsed.publish_from:
        raise BadRequest("cannot create network: an internal network publishes no ports; leave publish_from out")
    if parsed.publish_from and "nat-unprotected" in modes:
        raise BadRequest(
            "cannot create network: publish_from restricts what gateway mode nat-unprotected opens to all; use nat"
        )
    if not parsed.masquerade and (parsed.host_ipv4 or parsed.host_ipv6):
        raise BadRequest(
            "cannot create network: com.docker.network.host_ipv4 and host_ipv6 are the addresses that masqueraded"
            " traffic carries, but enable_ip_masquerade is false; leave one of them out"
        )
    check_overlay(parsed)
    return parsed


def check_overlay(parsed: NetworkOptions) -> None:
    """They make an overlay, or none of them is for overlays only.

    Raises: BadRequest: an overlay without what it needs, or its options on a bridge.
    """
    if parsed.type == "bridge":
        if not parsed.multicast:
            raise BadRequest("cannot create network: multicast is an option of overlays; add -o type=overlay")
        for field in ("name", "vni", "peers", "vtep", "dns", "encrypted"):
            if getattr(parsed, field):
                raise BadRequest(f"cannot create network: {field} is an option of overlays; add -o type=overlay")
        return
    if not parsed.name and (parsed.vni is None or not parsed.peers):
        raise BadRequest("cannot create network: its hosts know an overlay by its name; add -o name=NAME")
    isolated = "isolated" in (parsed.gateway_mode_ipv4, parsed.gateway_mode_ipv6)
    if parsed.dns and (isolated or parsed.inhibit_ipv4):
        raise BadRequest("cannot create network: dns answers at the gateway, which is to be elsewhere; leave one out")
    if parsed.dns and parsed.peers:
        raise BadRequest(
            "cannot create network: hosts that only know each other do not tell names; for dns leave -o peers out, and"
            " run pynet with PYNET_CLUSTER=etcd://HOST"
        )
    if parsed.vtep and not parsed.peers:
        raise BadRequest("cannot create network: PYNET_VTEP says how the cluster knows this host; leave -o vtep out")
    if parsed.vtep and ip_address(parsed.vtep).version != ip_address(parsed.peers[0]).version:
        raise BadRequest("cannot create network: vtep and peers are addresses of different families")


def parse_endpoint(request: wire.CreateEndpointRequest, network: Network) -> Endpoint:
    """Return the endpoint that CreateEndpoint asks for, with a MAC address of our choice if none is asked for.

    Raises: BadRequest: no address or a malformed one.
    """
    interface = request.Interface or wire.EndpointInterface()
    address4 = _parse(IPv4Interface, interface.Address, "IPv4 address") if interface.Address else None
    address6 = _parse(IPv6Interface, interface.AddressIPv6, "IPv6 address") if interface.AddressIPv6 else None
    endpoint_id = parse_id(request.EndpointID, "endpoint")
    if address4 is None and address6 is None:
        raise BadRequest(f"cannot create endpoint {endpoint_id[:12]}: it has no address; pynet does not choose any")
    mac = interface.MacAddress.lower()
    if mac and not _MAC.fullmatch(mac):
        raise BadRequest(f"cannot create endpoint {endpoint_id[:12]}: {mac!r} is no MAC address")
    return Endpoint(
        endpoint_id,
        network.id,
        address4,
        address6,
        mac or _mac_for(address4, address6),
        options=parse_endpoint_options(_own_options(request.Options or {})),
    )


def _own_options(options: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
    """Return the options that can be ours. Keys with a dot are the engine's, or meant for somebody else."""
    return {key: msgspec.json.decode(value) for key, value in options.items() if "." not in key}


def _mac_for(address4: IPv4Interface | None, address6: IPv6Interface | None) -> str:
    """Return a locally administered address made of the IP address, so that neighbours' caches stay right on re-use."""
    packed = address4.ip.packed if address4 is not None else address6.ip.packed[-4:] if address6 is not None else b""
    return ":".join(f"{octet:02x}" for octet in (0x02, 0x42, *packed))


def _parse_subnets(
    data: Iterable[wire.IPAMData], network_type: Callable[[str], N], interface_type: Callable[[str], Any]
) -> tuple[Subnet[N, Any], ...]:
    subnets: list[Subnet[N, Any]] = []
    for entry in data:
        pool = _parse(network_type, entry.Pool, "subnet")
        if pool.prefixlen == 0:
            raise BadRequest(f"cannot create network: the subnet {pool} is no subnet; give one with --subnet")
        gateway = _inside(pool, interface_type, entry.Gateway, "gateway")
        # Docker's word for "the way out is another machine on this bridge".
        router = (entry.AuxAddresses or {}).get(f"DefaultGatewayIPv{pool.version}", "")
        subnets.append(Subnet(pool, gateway, entry.AddressSpace, _inside(pool, interface_type, router, "gateway")))
    return tuple(subnets)


def _inside(pool: N, interface_type: Callable[[str], Any], text: str, what: str) -> Any:
    """Return the address `text` of `pool`, None for ""."""
    if not text:
        return None
    address = _parse(interface_type, text, what).ip
    if address not in pool:
        raise BadRequest(f"cannot create network: the {what} {address} is outside of the subnet {pool}")
    return address


def _parse(wanted: Callable[[str], P], text: str, what: str) -> P:
    try:
        return wanted(text)
    except ValueError as exc:
        raise BadRequest(f"cannot use the {what} {text!r}: {exc}") from exc
