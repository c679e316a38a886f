"""What should be in the kernel by the records, for those who watch it."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from netplugin.kinds import ENDPOINTS, NETWORKS, REMOTE_ENDPOINTS, REMOTE_HOSTS
from netplugin.overlay.plan import EVERYBODY, device_name
from netplugin.plan import bridge_name
from netplugin.records import Network
from pluginkit.store import Kind, Row, Store


def is_expected(store: Store, kind: str, name: str) -> bool:
    """Tell whether a "link" of that alias, an "address" or a family's "forwarding" should be, no move under way.

    For what is_fault knows: whether that is a fault.
    """
    if kind == "link":
        _, what, record_id = name.split(" ", 2)
        if what == "tunnel":
            found = [each for each in store.rows(NETWORKS) if each.current is not None and not each.pending]
            return any(each.current.options.encrypted for each in found if each.current is not None)
        kind_of_record: Kind[Any] = NETWORKS if what == "network" else ENDPOINTS
        row = store.get(kind_of_record, record_id)
        return row is not None and row.current is not None and not row.pending
    networks = [row.current for row in store.rows(NETWORKS) if row.current is not None and not row.pending]
    if kind == "forwarding":
        return any(not network.internal and (name == "ipv4" or network.subnets6) for network in networks)
    if kind.removeprefix("no ") in ("entry", "behind", "neighbour"):
        return is_fault(store, networks, kind, name)
    return any(str(subnet.gateway) == name for network in networks for subnet in network.subnets)


def is_fault(store: Store, networks: Iterable[Network], kind: str, name: str) -> bool:
    """Tell whether it is a fault that something appeared in, or went from, the kernel, by settled records.

    kind, name: "entry" gone or "no entry" there: device, MAC and VTEP. "behind" gone: device and MAC, the bridge's part
    of an entry; that it is there never is a fault. "neighbour" gone or "no neighbour" there: bridge, address and MAC.
    """
    link, *words = name.split(" ")
    if kind == "no behind":
        return False
    for network in networks:
        if network.overlay is None or link not in (device_name(network.id), bridge_name(network)):
            continue
        found = _speaking_of(store, network, kind, words)
        if any(not row.pending for row in found) or _is_static(network, words):
            return not kind.startswith("no ")
        # One that is just being made is not found by what it says.
        kinds: tuple[Kind[Any], ...] = (REMOTE_ENDPOINTS, REMOTE_HOSTS)
        return kind.startswith("no ") and not any(store.moving(one, network.id) for one in kinds)
    return False


def _is_static(network: Network, words: list[str]) -> bool:
    """Tell whether an entry leads to everybody, and to a peer that the network's own record names."""
    return network.overlay is not None and words[0] == EVERYBODY and words[-1] in network.overlay.peers


def _speaking_of(store: Store, network: Network, kind: str, words: list[str]) -> list[Row[Any]]:
    """Return the rows whose committed records want just that."""
    if kind.endswith("neighbour"):
        address, mac = ip_address(words[0]), words[1]
        prefixes = {subnet.pool.prefixlen for subnet in network.subnets if address in subnet.pool}
        found = [
            row
            for prefix in prefixes
            for row in store.find(REMOTE_ENDPOINTS, network.id, f"address{address.version}", f"{address}/{prefix}")
        ]
        return [row for row in found if row.current is not None and mac in ("", row.current.mac)]
    if words[0] == EVERYBODY:
        return [*store.find(REMOTE_HOSTS, network.id, "vtep", words[1])]
    found = store.find(REMOTE_ENDPOINTS, network.id, "mac", words[0])
    return [row for row in found if row.current is not None and words[1:] in ([], [row.current.vtep])]
