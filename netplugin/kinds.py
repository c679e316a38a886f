"""The kinds of records in pynet's state file, and how its schema came about."""

from __future__ import annotations

import sqlite3

from netplugin.ipam.records import Address, Installation, Pool
from netplugin.records import Endpoint, Network
from pluginkit.store import Kind, create_tables

NETWORKS = Kind("network", Network, durable=True)
ENDPOINTS = Kind("endpoint", Endpoint, durable=False)
POOLS = Kind("pool", Pool, durable=True)
ADDRESSES = Kind("address", Address, durable=True)
INSTALLATION = Kind("installation", Installation, durable=True)

ALL = (NETWORKS, ENDPOINTS, POOLS, ADDRESSES, INSTALLATION)


def index_addresses(connection: sqlite3.Connection) -> None:
    """Endpoints are found by network and address without reading the others. Schema 2."""
    for field in ("address4", "address6"):
        connection.execute(
            f"CREATE INDEX endpoint_{field} ON record (kind, parent, json_extract(current, '$.{field}'))"
            " WHERE kind = 'endpoint'"
        )


MIGRATIONS = (create_tables, index_addresses)
