"""A host without a cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from netplugin.overlay.decide import LOWEST_MTU, NOWHERE, OVERHEAD_BYTES, WITHOUT_KEYS, derived_vni
from netplugin.records import Endpoint, Network, Overlay
from pluginkit.errors import BadRequest, Conflict
from pluginkit.store import Row

log = logging.getLogger(__name__)

_DEFAULT_MTU = 1500


class Alone:
    """What verbs are told where there is no cluster.

    networks: the records of this host's. default_mtu: of the way out, None without one.
    """

    def __init__(self, networks: Callable[[], Iterable[Row[Network]]], default_mtu: Callable[[], int | None]) -> None:
        self._networks, self._default_mtu = networks, default_mtu

    def join(self, network: Network) -> Network:
        """Return the network as the first host of a cluster would make it; nothing leaves this host yet.

        When the host joins one, `ClusterDriver` gives the network its place in it.

        Raises: BadRequest: it takes what only a cluster can do, or its MTU would not fit into one. Conflict: another
        network of this host has its name.
        """
        if network.options.dns:
            raise BadRequest(
                f"cannot create network {network.id[:12]}: names go from host to host by etcd; run pynet with"
                " PYNET_CLUSTER=etcd://HOST, or leave -o dns=true out"
            )
        if network.options.encrypted:
            raise BadRequest(
                f"cannot create network {network.id[:12]}: hosts tell each other their keys by etcd; {WITHOUT_KEYS}"
            )
        known = [row.current for row in self._networks() if row.current is not None]
        for other in known:
            # In a cluster they would be one, whatever their VNIs.
            if other.id != network.id and other.overlay is not None and other.overlay.name == network.options.name:
                raise Conflict(
                    f"cannot create network {network.id[:12]}: network {other.id[:12]} of this host has the name"
                    f" {network.options.name}; choose another -o name, or remove that one"
                )
        # The underlay may come to be of IPv6, and containers that run cannot be given another MTU.
        room = (self._default_mtu() or _DEFAULT_MTU) - OVERHEAD_BYTES[6]
        mtu = network.options.mtu or room
        if not LOWEST_MTU <= mtu <= room:
            raise BadRequest(
                f"cannot create network {network.id[:12]}: an MTU of {mtu} does not fit, the way out leaves {room};"
                " leave it out"
            )
        vni = network.options.vni if network.options.vni is not None else derived_vni(network.options.name)
        log.info("network %s is on this host alone until pynet runs with PYNET_CLUSTER", network.options.name)
        overlay = Overlay(vni, network.options.vxlan_port, NOWHERE, (), network.options.name)
        return replace(network, overlay=overlay, mtu=mtu)

    def claim(self, network: Network, endpoint: Endpoint) -> None:
        """Nothing is done: the engine's word is enough."""

    def release(self, network: Network, endpoint_id: str) -> None:
        """Nothing is done."""

    def look_again(self) -> None:
        """Nothing is done."""
