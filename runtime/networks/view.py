"""Networks and endpoints as the Engine API shows them, and which of them fit filters. Pure."""

from __future__ import annotations

from typing import Any

from runtime.filters import Filters
from runtime.networks.records import Endpoint, Network, Pool, Target
from runtime.networks.table import BUILT_IN


def network(each: Network, members: list[tuple[str, Endpoint]]) -> dict[str, Any]:
    """Return the network. members: its endpoints with the names of their containers."""
    ipam = each.body.get("IPAM") or {}
    asked = {entry.get("Subnet"): entry for entry in ipam.get("Config") or []}
    return {
        "Name": each.name, "Id": each.id, "Created": each.created, "Scope": "local", "Driver": each.driver,
        "EnableIPv4": each.body.get("EnableIPv4") is not False, "EnableIPv6": bool(each.body.get("EnableIPv6")),
        "IPAM": {
            "Driver": each.ipam_driver, "Options": ipam.get("Options"),
            "Config": [_pool(pool, asked.get(pool.pool, {})) for pool in (*each.pools4, *each.pools6)],
        },
        "Internal": each.internal, "Attachable": bool(each.body.get("Attachable")), "Ingress": False,
        "ConfigFrom": {"Network": ""}, "ConfigOnly": False,
        "Containers": {
            endpoint.container: {
                "Name": name, "EndpointID": endpoint.id, "MacAddress": endpoint.mac,
                "IPv4Address": endpoint.address4.cidr if endpoint.address4 else "",
                "IPv6Address": endpoint.address6.cidr if endpoint.address6 else "",
            }
            for name, endpoint in members
        },
        "Options": each.options, "Labels": each.body.get("Labels") or {},
    }  # fmt: skip


def _pool(pool: Pool, asked: dict[str, Any]) -> dict[str, Any]:
    optional = {
        "IPRange": asked.get("IPRange"),
        "Gateway": pool.gateway.partition("/")[0],
        "AuxiliaryAddresses": {name: cidr.partition("/")[0] for name, cidr in pool.aux.items()},
    }
    return {"Subnet": pool.pool} | {key: value for key, value in optional.items() if value}


def settings(endpoint: Endpoint, target: Target | None) -> dict[str, Any]:
    """Return the EndpointSettings of an endpoint."""
    wish, four, six = endpoint.wish, endpoint.address4, endpoint.address6
    own = [target.name, *(wish.get("Aliases") or []), target.id[:12], target.hostname] if target else []
    return {
        "IPAMConfig": wish.get("IPAMConfig"), "Links": None, "Aliases": wish.get("Aliases"), "MacAddress": endpoint.mac,
        "DriverOpts": wish.get("DriverOpts"), "GwPriority": int(wish.get("GwPriority") or 0),
        "NetworkID": endpoint.network, "EndpointID": endpoint.id, "Gateway": endpoint.gateway4,
        "IPAddress": four.ip if four else "", "IPPrefixLen": four.prefix_length if four else 0,
        "IPv6Gateway": endpoint.gateway6, "GlobalIPv6Address": six.ip if six else "",
        "GlobalIPv6PrefixLen": six.prefix_length if six else 0, "DNSNames": list(dict.fromkeys(own)) or None,
    }  # fmt: skip


def unplugged(network: str, wish: dict[str, Any]) -> dict[str, Any]:
    """Return the EndpointSettings of who has no endpoint in the network of this id."""
    return settings(Endpoint("", network, "", wish), None)


def fits(each: Network, used: bool, filters: Filters) -> bool:
    """Return whether the network fits the filters."""
    is_custom = each.name not in BUILT_IN
    return (
        filters.names(each.name)
        and filters.some("id", each.id.startswith)
        and filters.some("driver", lambda driver: driver == each.driver)
        and filters.some("scope", lambda scope: scope == "local")
        and filters.some("type", lambda kind: kind == ("custom" if is_custom else "builtin"))
        and filters.some("dangling", lambda word: (word in ("true", "1")) == (is_custom and not used))
        and filters.labels(each.body.get("Labels") or {})
    )
