"""How the administrator's commands show what they were answered. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from netplugin.admin.wire import ChainInfo, NetworkInfo, PortInfo, span
from netplugin.engine.view import EngineView
from pluginkit.cli import columns


def networks(found: Iterable[NetworkInfo], names: EngineView) -> str:
    """Return a line a network."""
    rows = [("NETWORK", "ID", "TYPE", "BRIDGE", "SUBNETS", "ENDPOINTS", "PORTS")]
    rows += sorted(
        (
            names.network_name(network.ID), network.ID[:12], network.Type, network.Bridge,
            " ".join(subnet.Pool for subnet in network.Subnets) or "-", _endpoints(network),
            str(sum(_count(port) for endpoint in network.Endpoints for port in endpoint.Ports)),
        )
        for network in found
    )  # fmt: skip
    return columns(rows)


def endpoints(found: Iterable[NetworkInfo], names: EngineView) -> str:
    """Return a line an endpoint of this host."""
    rows = [("NETWORK", "CONTAINER", "ADDRESSES", "MAC", "LINK")]
    rows += sorted(
        (
            names.network_name(network.ID), names.container_name(endpoint.ID),
            " ".join(address.partition("/")[0] for address in endpoint.Addresses), endpoint.MAC, endpoint.Link,
        )
        for network in found for endpoint in network.Endpoints
    )  # fmt: skip
    return columns(rows)


def ports(found: Iterable[NetworkInfo], names: EngineView) -> str:
    """Return a line a run of published ports."""
    rows = [("HOST", "PORTS", "CONTAINER", "ITS PORTS", "NETWORK", "WHO MAY")]
    rows += sorted(
        (
            port.Address, f"{span(port.HostPort, port.HostPortEnd)}/{port.Protocol}",
            names.container_name(endpoint.ID), span(port.Port, port.Port + _count(port) - 1),
            names.network_name(network.ID), _who(port),
        )
        for network in found for endpoint in network.Endpoints for port in endpoint.Ports
    )  # fmt: skip
    return columns(rows)


def rules(found: Iterable[ChainInfo], names: EngineView) -> str:
    """Return each chain's rules below what it is for, by network and container."""
    lines, of = [], ("", "")
    for each in found:
        if of != (of := (each.NetworkID, each.EndpointID)):
            container = f", container {names.container_name(each.EndpointID)}" if each.EndpointID else ""
            lines.append(f"network {names.network_name(each.NetworkID)}{container}")
        lines.append(f"  {each.Family} {each.Table} {each.Chain}".rstrip() + f": {each.Purpose}")
        lines += [f"    {rule}" for rule in each.Rules]
    return "\n".join(lines)


def _endpoints(network: NetworkInfo) -> str:
    here = str(len(network.Endpoints))
    return f"{here} + {network.Elsewhere} on {len(network.Hosts)} hosts" if network.Hosts else here


def _who(port: PortInfo) -> str:
    until = f" until {port.Until.astimezone():%Y-%m-%d %H:%M:%S}" if port.Until else ""
    return (" ".join(port.From) or "anybody") + until


def _count(port: PortInfo) -> int:
    return port.HostPortEnd - port.HostPort + 1
