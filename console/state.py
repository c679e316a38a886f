"""What the page shows, made of what the plugins and engines said. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from console.growth import Growth
from console.source import Reading

Row = dict[str, Any]
# More than that nobody reads; the commands list all.
MOST = 1000


@dataclass(frozen=True)
class Names:
    """What engines call networks and the containers of endpoints, by ID."""

    networks: Mapping[str, str]
    containers: Mapping[str, str]

    def network(self, network_id: str) -> str:
        """Return the name, or the start of the ID if no engine knows it."""
        return self.networks.get(network_id, network_id[:12])

    def container(self, endpoint_id: str) -> str:
        """Return the name, or the start of the ID."""
        return self.containers.get(endpoint_id, endpoint_id[:12])


NOBODY = Names({}, {})


def pynet(reading: Reading[Row], names: Names, host: str) -> Row:
    """Return what is shown of networks; without rows if pynet never answered."""
    seen = reading.value
    if seen is None:
        return {**_told(reading), "hosts": [_this(host)]}
    networks = sorted(seen["networks"], key=lambda network: names.network(network["ID"]))
    network_of = {end["ID"]: network["ID"] for network in networks for end in network["Endpoints"]}
    ports = [
        _port(port, network, end, names)
        for network in networks for end in network["Endpoints"] for port in end["Ports"]
    ]  # fmt: skip
    flows = seen["flows"]
    return {
        **_told(reading),
        "version": seen["service"]["Version"],
        "firewall": seen["service"]["Firewall"],
        "hosts": [_this(host), *_hosts(networks, seen["ways"], names)],
        "networks": [_network(network, names) for network in networks][:MOST],
        "endpoints": [_endpoint(network, end, names) for network in networks for end in network["Endpoints"]][:MOST],
        "ports": sorted(ports, key=lambda port: (port["reach"] != "anybody", port["container"]))[:MOST],
        "flows": [_flow(flow, network_of, names) for flow in flows["Flows"]],
        "counts": {
            "networks": len(networks),
            "endpoints": sum(len(network["Endpoints"]) for network in networks),
            "ports": len(ports),
            "open": sum(port["reach"] == "anybody" for port in ports),
            "flows": len(flows["Flows"]) + flows["More"],
        },
        "flows_are_whole": flows["IsWhole"],
    }


def pyvol(reading: Reading[Row], growth: Growth) -> Row:
    """Return what is shown of volumes; without rows if pyvol never answered."""
    seen = reading.value
    if seen is None:
        return _told(reading)
    snapshots: dict[str, list[Row]] = {}
    for snapshot in seen["snapshots"]:
        snapshots.setdefault(snapshot["Snapshot"].partition("@")[0], []).append(snapshot)
    volumes = [_volume(volume, snapshots.get(volume["Name"], []), growth) for volume in seen["volumes"]]
    disk = seen["disk"]
    return {
        **_told(reading),
        # What is ill first, then what is nearly full.
        "volumes": sorted(volumes, key=lambda row: (row["health"] == "ok", -(row["share"] or 0), row["name"]))[:MOST],
        "pools": [_pool(pool) for pool in seen["pools"]],
        "snapshots": [_snapshot(each) for each in reversed(seen["snapshots"])][:MOST],
        "disk": {
            "available": disk["AvailableBytes"],
            "growth": disk["GrowthBytes"],
            "trash": disk["TrashBytes"],
            "taken": sum(volume["Status"].get("allocated_bytes", 0) for volume in seen["volumes"]),
        },
        "counts": {"volumes": len(volumes), "snapshots": len(seen["snapshots"])},
    }


def events(readings: Mapping[str, Reading[Row]], names: Names) -> list[Row]:
    """Return what has happened in all plugins, the latest first."""
    rows = [
        _event(plugin, event, names)
        for plugin, reading in readings.items() if reading.value
        for event in reading.value["events"]
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (row["at"], row["number"]), reverse=True)[:MOST]


def findings(readings: Mapping[str, Reading[list[Row]]]) -> Row:
    """Return what the doctors found, the worst first, and when they looked."""
    rows = [{**row, "by": doctor} for doctor, reading in readings.items() for row in reading.value or ()]
    order = ("fault", "warning", "note")
    return {
        "found": sorted(rows, key=lambda row: order.index(row["level"])),
        "looked": {doctor: _told(reading) for doctor, reading in readings.items()},
    }


def used(volumes: Iterable[Row]) -> dict[str, int]:
    """Return how much is in each volume of which that is known."""
    return {each["Name"]: each["Status"]["used_bytes"] for each in volumes if "used_bytes" in each["Status"]}


def _told(reading: Reading[Any]) -> Row:
    return {"at": reading.at.isoformat() if reading.at else None, "error": reading.error}


def _this(host: str) -> Row:
    return {"name": host, "here": True, "state": "this host", "networks": [], "ports": []}


def _hosts(networks: Iterable[Row], ways: Iterable[Row], names: Names) -> list[Row]:
    hosts: dict[str, Row] = {}
    for network in networks:
        for peer in network["Hosts"]:
            row = hosts.setdefault(peer, {"name": peer, "here": False, "state": "", "networks": [], "ports": []})
            row["networks"].append(names.network(network["ID"]))
    worst = ("silent", "checksums", "narrow", "good")
    for way in sorted(ways, key=lambda way: worst.index(way["State"]), reverse=True):
        if way["Peer"] in hosts:
            hosts[way["Peer"]]["state"] = way["State"]
            hosts[way["Peer"]]["ports"].append(way["Port"])
    return sorted(hosts.values(), key=lambda row: row["name"])


def _network(network: Row, names: Names) -> Row:
    return {
        "key": network["ID"],
        "name": names.network(network["ID"]),
        "id": network["ID"][:12],
        "type": network["Type"],
        "bridge": network["Bridge"],
        "subnets": [subnet["Pool"] for subnet in network["Subnets"]],
        "internal": network["Internal"],
        "alone": network["Alone"],
        "mtu": network["MTU"],
        "endpoints": len(network["Endpoints"]),
        "elsewhere": network["Elsewhere"],
        "ports": sum(len(end["Ports"]) for end in network["Endpoints"]),
        "options": [f"{name}={_shown(value)}" for name, value in sorted(network["Options"].items())],
    }


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _endpoint(network: Row, end: Row, names: Names) -> Row:
    return {
        "key": end["ID"],
        "container": names.container(end["ID"]),
        "network": names.network(network["ID"]),
        "addresses": [address.partition("/")[0] for address in end["Addresses"]],
        "mac": end["MAC"],
        "link": end["Link"],
        "joined": bool(end["Sandbox"]),
        "ports": len(end["Ports"]),
    }


def _port(port: Row, network: Row, end: Row, names: Names) -> Row:
    last = port["HostPortEnd"]
    return {
        "key": f"{end['ID']} {port['Protocol']} {port['Address']} {port['HostPort']}",
        "address": port["Address"],
        "host_ports": _span(port["HostPort"], last),
        "protocol": port["Protocol"],
        "container": names.container(end["ID"]),
        "network": names.network(network["ID"]),
        "ports": _span(port["Port"], port["Port"] + last - port["HostPort"]),
        "reach": _reach(port),
        "from": port["From"],
        "until": port["Until"],
    }


def _reach(port: Row) -> str:
    """Return who gets in, in a word: host, some, one-address or anybody."""
    address = ip_address(port["Address"])
    if address.is_loopback:
        return "host"
    if port["From"]:
        return "some"
    return "anybody" if address.is_unspecified else "one-address"


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _flow(flow: Row, network_of: Mapping[str, str], names: Names) -> Row:
    of = flow["SourceEndpoint"] or flow["ToEndpoint"]
    source, to = (names.container(flow[end]) if flow[end] else "" for end in ("SourceEndpoint", "ToEndpoint"))
    return {
        "key": " ".join(str(flow[part]) for part in ("Protocol", "Source", "SourcePort", "Destination",
                                                     "DestinationPort", "To")),
        "protocol": flow["Protocol"],
        "source": f"{_bracketed(flow['Source'])}:{flow['SourcePort']}",
        "source_name": source,
        "destination": f"{_bracketed(flow['Destination'])}:{flow['DestinationPort']}",
        "to": "" if flow["To"] == flow["Destination"] else f"{_bracketed(flow['To'])}:{flow['ToPort']}",
        "to_name": to,
        "network": names.network(network_of[of]) if of in network_of else "",
        "state": flow["State"],
        "bytes": flow["Bytes"],
    }  # fmt: skip


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _volume(volume: Row, snapshots: list[Row], growth: Growth) -> Row:
    status = volume["Status"]
    size, in_use = status.get("size_bytes"), status.get("used_bytes")
    line, grown, seconds = growth.of(volume["Name"])
    return {
        "key": volume["Name"],
        "name": volume["Name"],
        "backend": status["backend"],
        "fs": status.get("fs", ""),
        "pool": status.get("pool", ""),
        "size": size,
        "used": in_use,
        "share": min(1.0, in_use / size) if size and in_use is not None else None,
        "allocated": status.get("allocated_bytes"),
        "line": line,
        "grown": grown,
        "grown_over_s": seconds,
        "mounts": sum(status.get("mounts", {}).values()),
        "snapshots": len(snapshots),
        "latest": max((each["CreatedAt"] for each in snapshots), default=None),
        "schedule": status.get("schedule", ""),
        "health": status["health"],
        "problem": status.get("problem", ""),
        "last_error": status.get("last_error", ""),
        "flags": [flag for flag in ("encrypted", "protected") if status.get(flag)],
        "underway": status.get("underway", ""),
    }


def _pool(pool: Row) -> Row:
    status = pool["Status"]
    size, in_use = status.get("size_bytes"), status.get("used_bytes")
    return {
        "key": pool["Name"],
        "name": pool["Name"],
        "size": size,
        "used": in_use,
        "share": min(1.0, in_use / size) if size and in_use is not None else None,
        "growth": status.get("growth_bytes"),
        "volumes": len(pool["Volumes"]),
        "health": status["health"],
        "problem": status.get("problem", ""),
    }


def _snapshot(snapshot: Row) -> Row:
    name = snapshot["Snapshot"]
    return {"key": name, "name": name, "at": snapshot["CreatedAt"], "size": snapshot["SizeBytes"]}


def _event(plugin: str, event: Row, names: Names) -> Row:
    subject = event["ID"]
    if plugin == "pynet" and event["Kind"] != "failed":
        is_end = bool(event["Of"])
        subject = names.container(subject) if is_end else names.network(subject)
        subject += f" on {names.network(event['Of'])}" if is_end else ""
    return {
        "key": f"{plugin} {event['Number']} {event['At']}",
        "number": event["Number"],
        "at": event["At"],
        "plugin": plugin,
        "kind": event["Kind"],
        "subject": subject,
        "text": event["Text"],
    }
