"""The kinds of records in pynet's state file, and how its schema came about."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from netplugin.ipam.records import Address, Installation, Pool
from netplugin.records import (
    Allocation,
    Endpoint,
    HostIdentity,
    LostRequest,
    Network,
    Node,
    RemoteEndpoint,
    RemoteHost,
    Sighting,
)
from pluginkit.store import Kind, Store, create_tables

STATE_FILE = "pynet.db"
NETWORKS = Kind("network", Network, durable=True)
ENDPOINTS = Kind("endpoint", Endpoint, durable=False)
# After a reboot the cluster tells them again.
REMOTE_HOSTS = Kind("remote host", RemoteHost, durable=False)
REMOTE_ENDPOINTS = Kind("remote endpoint", RemoteEndpoint, durable=False)
POOLS = Kind("pool", Pool, durable=True)
ADDRESSES = Kind("address", Address, durable=True)
HOST = Kind("host", HostIdentity, durable=True)
INSTALLATION = Kind("installation", Installation, durable=True)
ALLOCATIONS = Kind("allocation", Allocation, durable=True)
# An engine tells of them as they come, and says nothing to a plugin that was restarted.
NODES = Kind("node", Node, durable=True)
SIGHTINGS = Kind("sighting", Sighting, durable=True)
LOST = Kind("lost request", LostRequest, durable=False)

ALL = (
    *(NETWORKS, ENDPOINTS, REMOTE_HOSTS, REMOTE_ENDPOINTS, POOLS, ADDRESSES),
    *(INSTALLATION, HOST, ALLOCATIONS, NODES, SIGHTINGS, LOST),
)


def index_addresses(connection: sqlite3.Connection) -> None:
    """Endpoints are found by network and address without reading the others. Schema 2."""
    for field in ("address4", "address6"):
        connection.execute(
            f"CREATE INDEX endpoint_{field} ON record (kind, parent, json_extract(current, '$.{field}'))"
            " WHERE kind = 'endpoint'"
        )


def keep_mtu(connection: sqlite3.Connection) -> None:
    """Networks of before the MTU was decided at creation keep the one that they were asked to have. Schema 3."""
    connection.execute(
        "UPDATE record SET current = json_set(current, '$.mtu', json_extract(current, '$.options.mtu'))"
        " WHERE kind = 'network' AND json_extract(current, '$.mtu') IS NULL"
        " AND json_extract(current, '$.options.mtu') IS NOT NULL"
    )


# All records, and how many of them share one, two, … columns of an index. Source: https://www.sqlite.org/fileformat2.html,
# section 2.6.3.
_DISTRIBUTION = (
    ("record", "50000 10000 1"),
    ("record_parent", "50000 10000 100 1"),
    ("record_moving", "10 5 2 1"),
    ("endpoint_address4", "10000 10000 1000 1 1"),
    ("endpoint_address6", "10000 10000 1000 1 1"),
    ("remote_endpoint_address4", "10000 10000 1000 1 1"),
    ("remote_endpoint_address6", "10000 10000 1000 1 1"),
    ("remote_endpoint_mac", "10000 10000 1000 1 1"),
)
_SANDBOX_DISTRIBUTION = "10000 10000 3 1"


def index_elsewhere(connection: sqlite3.Connection) -> None:
    """Endpoints of other hosts are found by what their entries say, and moves under way at once. Schema 4."""
    for field in ("address4", "address6", "mac"):
        connection.execute(
            f"CREATE INDEX remote_endpoint_{field} ON record (kind, parent, json_extract(current, '$.{field}'))"
            " WHERE kind = 'remote endpoint'"
        )
    connection.execute("CREATE INDEX record_moving ON record (kind, parent) WHERE next IS NOT NULL")
    # Untold, SQLite takes it that a kind has ten records, and reads all of them instead of any index.
    connection.execute("ANALYZE record")
    connection.execute("DELETE FROM sqlite_stat1")
    connection.executemany("INSERT INTO sqlite_stat1 VALUES ('record', ?, ?)", _DISTRIBUTION)
    connection.execute("ANALYZE sqlite_schema")


def index_sandboxes(connection: sqlite3.Connection) -> None:
    """The endpoints of a sandbox are found without reading the others. Schema 5."""
    connection.execute(
        "CREATE INDEX endpoint_sandbox ON record (kind, json_extract(current, '$.sandbox')) WHERE kind = 'endpoint'"
    )
    connection.execute("INSERT INTO sqlite_stat1 VALUES ('record', 'endpoint_sandbox', ?)", (_SANDBOX_DISTRIBUTION,))
    connection.execute("ANALYZE sqlite_schema")


MIGRATIONS = (create_tables, index_addresses, keep_mtu, index_elsewhere, index_sandboxes)


def open_store(state_dir: Path) -> Store:
    """Return the records below `state_dir`.

    Raises: StateError: they cannot be used.
    """
    return Store(state_dir / STATE_FILE, ALL, MIGRATIONS)
