"""What containers are called becomes part of the records of their endpoints, and of what the cluster knows of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

from netplugin.dns.zone import parse_names
from netplugin.kinds import ENDPOINTS, NETWORKS
from netplugin.machine import Cluster
from netplugin.plan import Plans
from netplugin.records import Endpoint
from pluginkit.errors import PluginError
from pluginkit.locks import Locks
from pluginkit.log import failure
from pluginkit.reconcile import Reconciler
from pluginkit.store import Store

log = logging.getLogger(__name__)


class NameDriver:
    """The one verb that no engine calls: what an endpoint's container is called. It takes the network's lock, too."""

    def __init__(self, store: Store, reconciler: Reconciler, locks: Locks, plans: Plans, cluster: Cluster) -> None:
        self._store, self._reconciler, self._locks, self._cluster = store, reconciler, locks, cluster
        self._endpoints = plans.endpoints

    def joined(self) -> dict[str, Endpoint]:
        """Return the endpoints that have a sandbox, of networks whose names are answered for, by their IDs."""
        networks = [row.current for row in self._store.rows(NETWORKS) if row.current is not None]
        rows = (self._store.rows(ENDPOINTS, parent=network.id) for network in networks if network.options.dns)
        found = (row.current for of_network in rows for row in of_network if row.current is not None)
        return {endpoint.id: endpoint for endpoint in found if endpoint.sandbox}

    def name(self, endpoint_id: str, given: Iterable[str]) -> None:
        """The endpoint, if it is still there, has these names here, and in the cluster now or when etcd is back."""
        found = self._store.get(ENDPOINTS, endpoint_id)
        if found is None:
            return
        with self._locks.hold(found.parent):
            row, network = self._store.get(ENDPOINTS, endpoint_id), self._store.get(NETWORKS, found.parent)
            if row is None or row.current is None or network is None or network.current is None:
                return
            named = replace(row.current, names=parse_names(given))
            if named == row.current:
                return
            self._reconciler.transition(self._endpoints, endpoint_id, named)
            try:
                self._cluster.claim(network.current, named)
            except PluginError as exc:
                # What stands in etcd is compared with the records whenever it is read again.
                failure(log, exc)
                self._cluster.look_again()
