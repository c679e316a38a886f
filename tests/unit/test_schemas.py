"""State files of every schema that there has been, as text in `schemas/`, become what this version would have written.

PLUGIN-SCHEMA.sql was written by the version of that time. Who adds a migration adds a file here, by
`sqlite3 FILE .dump` and a line `PRAGMA user_version = SCHEMA;`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path

import pytest

from netplugin import kinds
from netplugin.ipam.records import Address, Installation, Pool
from netplugin.kinds import open_store as open_pynet
from netplugin.options import NetworkOptions
from netplugin.records import (
    Endpoint,
    HostIdentity,
    Network,
    Overlay,
    PublishedPort,
    RemoteEndpoint,
    RemoteHost,
    Sighting,
    Subnet,
)
from pluginkit.errors import StateError
from pluginkit.store import VERSION, Row, Store
from runtime.errors import Failed
from runtime.state import SCHEMA as PYRUN_SCHEMA
from runtime.state import State
from volplugin.options import Bind, Loop
from volplugin.records import Attachment, MountCount, Volume
from volplugin.state import open_store as open_pyvol
from volplugin.volumes import ALL as PYVOL_KINDS
from volplugin.volumes import ATTACHMENT, VOLUME

SCHEMAS = Path(__file__).with_name("schemas")
OPEN: dict[str, Callable[[Path], Store]] = {"pynet": open_pynet, "pyvol": open_pyvol}
A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
BLUE = Network(
    A,
    (Subnet(IPv4Network("10.61.0.0/24"), IPv4Address("10.61.0.1"), "LocalDefault"),),
    (Subnet(IPv6Network("fd61::/64"), IPv6Address("fd61::1"), "LocalDefault"),),
    internal=False,
    options=NetworkOptions(
        mtu=1400, masquerade=False, host_binding_ipv4=IPv4Address("127.0.0.1"), interface_prefix="lan"
    ),
    mtu=1400,
)
GREEN = Network(
    B, (Subnet(IPv4Network("10.62.0.0/24"), None, "LocalDefault"),), (), internal=True, options=NetworkOptions(mtu=1500)
)
PORT = PublishedPort("tcp", 80, 8080, IPv4Address("0.0.0.0"), IPv6Address("::"))
FIRST = Endpoint(
    *(C, A, IPv4Interface("10.61.0.2/24"), IPv6Interface("fd61::2/64"), "02:42:0a:3d:00:02"),
    *("/var/run/docker/netns/f00", (PORT,)),
)
RED = Network(
    A,
    (Subnet(IPv4Network("10.61.0.0/24"), IPv4Address("10.61.0.1"), "pynet-local"),),
    (),
    internal=False,
    options=NetworkOptions(interface_prefix="lan"),
    mtu=1400,
)
RUN = PublishedPort("udp", 5000, 6000, IPv4Address("0.0.0.0"), None, 10)
SECOND = Endpoint(C, A, IPv4Interface("10.61.0.2/24"), None, "02:42:0a:3d:00:02", former_ports=(RUN,))
OVER = Network(
    A,
    (Subnet(IPv4Network("10.61.0.0/24"), IPv4Address("10.61.0.1"), "pynet-local"),),
    (),
    internal=False,
    options=NetworkOptions(type="overlay", name="blue", vni=4097),
    mtu=1450,
    overlay=Overlay(4097, 4790, "192.0.2.1", (), "blue"),
)
ELSEWHERE = RemoteEndpoint("02:42:0a:3d:00:03", "192.0.2.2", IPv4Interface("10.61.0.3/24"), None)
CREATED = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)
POOL = "pynet-local/10.61.0.0/24"
ADDRESSES = ("address4", "address6")
OVERLAY = [
    (kinds.NETWORKS, Row(A, "", OVER, None, pending=False)),
    (kinds.REMOTE_HOSTS, Row("192.0.2.2", A, RemoteHost("192.0.2.2"), None, pending=False)),
    (kinds.REMOTE_ENDPOINTS, Row("e" * 64, A, ELSEWHERE, None, pending=False)),
    (kinds.HOST, Row("this", "", HostIdentity("d" * 32), None, pending=False)),
    (kinds.SIGHTINGS, Row(A, "", Sighting("ENGI:NE"), None, pending=False)),
]
ROWS = {
    "pynet-1": [
        (kinds.NETWORKS, Row(A, "", BLUE, None, pending=False)),
        (kinds.NETWORKS, Row(B, "", GREEN, None, pending=True)),
        (kinds.ENDPOINTS, Row(C, A, FIRST, None, pending=False)),
    ],
    "pynet-2": [
        (kinds.NETWORKS, Row(A, "", RED, None, pending=False)),
        (kinds.ENDPOINTS, Row(C, A, SECOND, None, pending=False)),
        (kinds.POOLS, Row(POOL, "", Pool("pynet-local", "10.61.0.0/24", "10.61.0.128/25", True, 1), None, False)),
        (
            kinds.ADDRESSES,
            Row(f"{POOL}/2", POOL, Address("10.61.0.2", "endpoint", "02:42:0a:3d:00:02", 1, True), None, False),
        ),
        (kinds.INSTALLATION, Row("this", "", Installation(IPv6Network("fd12:3456:789a::/48")), None, False)),
    ],
    "pynet-3": OVERLAY,
    "pynet-4": OVERLAY,
    "pynet-5": OVERLAY,
    "pyvol-1": [
        (VOLUME, Row("half", "", None, Volume("half", Loop(size=2**30, fs="ext4")), pending=True)),
        (VOLUME, Row("notes", "", Volume("notes", Loop(size=2**26, fs="ext4"), CREATED), None, pending=False)),
        (VOLUME, Row("shared", "", Volume("shared", Bind(source="/srv/data/shared"), CREATED), None, pending=False)),
        (ATTACHMENT, Row("notes", "notes", Attachment((MountCount(D, "1234@5678", 2),)), None, pending=False)),
    ],
}


def written(path: Path, name: str) -> None:
    """The file is as that version wrote it, since the last start of this machine."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((SCHEMAS / f"{name}.sql").read_text().replace("the boot that wrote it", boot_id))


def layout(path: Path) -> tuple[int, set[tuple[str, str]]]:
    """Return the file's schema number, and its tables and indices."""
    with closing(sqlite3.connect(path)) as connection:
        [[schema]] = connection.execute("PRAGMA user_version")
        return int(schema), set(connection.execute("SELECT name, sql FROM sqlite_master"))


@pytest.mark.parametrize("name", ROWS)
def test_what_an_older_version_wrote_is_read(tmp_path: Path, name: str) -> None:
    plugin = name.partition("-")[0]
    written(tmp_path / f"{plugin}.db", name)
    with closing(OPEN[plugin](tmp_path)) as store:
        every = kinds.ALL if plugin == "pynet" else PYVOL_KINDS
        assert [(kind, row) for kind in every for row in store.rows(kind)] == ROWS[name]
    OPEN[plugin](tmp_path / "new").close()
    assert layout(tmp_path / f"{plugin}.db") == layout(tmp_path / "new" / f"{plugin}.db")


def test_rows_are_found_without_reading_all_others(tmp_path: Path) -> None:
    """Untold how many records a kind has, SQLite takes none of the indices."""
    asked: list[str] = []
    with closing(open_pynet(tmp_path)) as store:
        store._connection.set_trace_callback(asked.append)
        store.rows(kinds.ENDPOINTS, parent=A)
        store.moving(kinds.REMOTE_ENDPOINTS, A)
        for kind, fields in ((kinds.ENDPOINTS, ADDRESSES), (kinds.REMOTE_ENDPOINTS, (*ADDRESSES, "mac"))):
            for field in fields:
                store.find(kind, A, field, "x")
        store.find(kinds.ENDPOINTS, None, "sandbox", "x")
        store._connection.set_trace_callback(None)
        plans = [store._connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall() for query in asked]
    used = [plan[0][3].removeprefix("SEARCH record USING INDEX ").partition(" ")[0] for plan in plans]
    of_fields = [*(f"endpoint_{field}" for field in ADDRESSES), *(f"remote_endpoint_{field}" for field in ADDRESSES)]
    assert used == ["record_parent", "record_moving", *of_fields, "remote_endpoint_mac", "endpoint_sandbox"]


def test_each_schema_has_its_file() -> None:
    """The newest one too: what is written now is what the next version finds."""
    schemas = {"pynet": len(kinds.MIGRATIONS), "pyvol": 1, "pyrun": PYRUN_SCHEMA}
    wanted = {f"{name}-{number}.sql" for name, last in schemas.items() for number in range(1, last + 1)}
    assert {path.name for path in SCHEMAS.iterdir()} == wanted


@pytest.mark.parametrize("plugin", OPEN)
def test_an_older_version_refuses_and_says_who_wrote_it(tmp_path: Path, plugin: str) -> None:
    path = tmp_path / f"{plugin}.db"
    OPEN[plugin](tmp_path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE fact SET value = '9.1.0' WHERE name = 'written_by'")
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(StateError) as refusal:
        OPEN[plugin](tmp_path)
    assert "its schema 99 is newer than the " in str(refusal.value)
    assert f"of this version, {VERSION}; install 9.1.0 again, or restore the state" in str(refusal.value)
    assert path.read_bytes() == before


def test_pyrun_reads_its_first_schema_and_refuses_a_newer_one(tmp_path: Path) -> None:
    path = tmp_path / "pyrun.db"
    written(path, "pyrun-1")
    with closing(State(path)) as state:
        assert state.all("network") == {A: {"Name": "blue", "Driver": "pynet"}}
        assert state.get("volume", "notes") == {"Name": "notes", "Driver": "pyvol", "Labels": {"of": "ann"}}
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(Failed, match="schema 99 is newer than this version's 1; install the version that wrote it"):
        State(path)
