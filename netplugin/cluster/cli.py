"""`pynet cluster …`: the cluster as an operator sees it. What is slow to import is imported by the command."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pluginkit.cli import Json, as_json, columns, told_in_one_line

if TYPE_CHECKING:
    from netplugin.cluster.etcd import Etcd
    from netplugin.cluster.operate import Comparison

# For reading everything from etcd again, beside all else that goes on.
_FIX_PATIENCE_S = 10.0

app = typer.Typer(help="What the hosts of overlays agree on in etcd.", no_args_is_help=True, rich_markup_mode=None)

Cluster = Annotated[str, typer.Option(envvar="PYNET_CLUSTER", help="As for pynet serve.")]
Authority = Annotated[Path | None, typer.Option("--cluster-ca", envvar="PYNET_CLUSTER_CA", help="As for pynet serve.")]
Certificate = Annotated[
    Path | None, typer.Option("--cluster-cert", envvar="PYNET_CLUSTER_CERT", help="As for pynet serve.")
]
Key = Annotated[Path | None, typer.Option("--cluster-key", envvar="PYNET_CLUSTER_KEY", help="As for pynet serve.")]


@app.command()
def hosts(
    cluster: Cluster, ca: Authority = None, cert: Certificate = None, key: Key = None, json: Json = False
) -> None:
    """List the hosts: name, address in the underlay, whether alive, how many networks and endpoints, ID."""
    from netplugin.cluster import operate

    with told_in_one_line("pynet"):
        lines = operate.hosts(_etcd(cluster, ca, cert, key))
    if json:
        typer.echo(as_json(lines))
        return
    rows = [("NAME", "VTEP", "STATE", "NETWORKS", "ENDPOINTS", "ID")]
    rows += [
        (line.name, line.vtep, "alive" if line.alive else "silent", str(line.networks), str(line.endpoints), line.id)
        for line in lines
    ]
    typer.echo(columns(rows))


@app.command()
def status(
    cluster: Cluster, ca: Authority = None, cert: Certificate = None, key: Key = None, json: Json = False
) -> None:
    """List the networks: name, VNI, UDP port, MTU, how many hosts and endpoints, subnets."""
    from netplugin.cluster import operate

    with told_in_one_line("pynet"):
        lines = operate.networks(_etcd(cluster, ca, cert, key))
    if json:
        typer.echo(as_json(lines))
        return
    rows: list[tuple[str, ...]] = [("NAME", "VNI", "PORT", "MTU", "HOSTS", "ENDPOINTS", "SUBNETS")]
    for line in lines:
        counts = (line.value.vni, line.value.port, line.value.mtu, line.hosts, line.endpoints)
        rows.append((line.name, *map(str, counts), " ".join(pool for pool, _ in line.value.subnets)))
    typer.echo(columns(rows))


@app.command()
def forget(
    host: Annotated[str, typer.Argument(help="Its ID or name, as `pynet cluster hosts` has it.")],
    cluster: Cluster,
    ca: Authority = None,
    cert: Certificate = None,
    key: Key = None,
    off: Annotated[
        bool, typer.Option("--off", help="It is off for good: others may have its addresses, and its name is unknown.")
    ] = False,
) -> None:
    """Send nothing to a silent host any more, until it comes back. One that is alive is refused."""
    from netplugin.cluster import operate

    with told_in_one_line("pynet"):
        line = operate.forget(_etcd(cluster, ca, cert, key), host, off=off)
    typer.echo(f"forgot {line.name}: {line.networks} networks, {line.endpoints} endpoints")


@app.command()
def verify(
    cluster: Cluster,
    ca: Authority = None,
    cert: Certificate = None,
    key: Key = None,
    fix: Annotated[bool, typer.Option("--fix", help="The pynet that runs here puts it right.")] = False,
    state_dir: Annotated[
        Path, typer.Option(envvar="PYNET_STATE_DIR", help="State directory of the pynet that is asked.")
    ] = Path("/var/lib/pynet"),
    json: Json = False,
) -> None:
    """Compare this host's kernel with etcd; say what was compared, print what differs, exit with 1 if anything does."""
    etcd = _etcd(cluster, ca, cert, key)
    found = _compared(etcd)
    told = list(found.differences)
    if told and fix:
        found = _fixed(etcd, state_dir)
        told += ["still:", *found.differences] if found.differences else ["put right"]
    if json:
        # With --fix: as it is now.
        typer.echo(as_json(found))
    else:
        typer.echo("\n".join(told) if told else _agreed(found))
    if found.differences:
        raise typer.Exit(1)


@app.command()
def ways(
    state_dir: Annotated[
        Path, typer.Option(envvar="PYNET_STATE_DIR", help="State directory of the pynet that is asked.")
    ] = Path("/var/lib/pynet"),
    json: Json = False,
) -> None:
    """List how overlays' packets get to each peer, as the pynet here last tried; end with 1 if one is bad."""
    from netplugin.admin.wire import WaysAnswer
    from pluginkit import admin

    with told_in_one_line("pynet"):
        answer = admin.call("pynet", state_dir, "Ways.List", {}, WaysAnswer)
    table = columns([("PEER", "PORT", "STATE"), *((way.Peer, str(way.Port), way.State) for way in answer.Ways)])
    typer.echo(as_json(answer) if json else table)
    if answer.InSoftware and not json:
        typer.echo("checksums are computed in software")
    if any(way.State in ("silent", "narrow") for way in answer.Ways):
        raise typer.Exit(1)


def _compared(etcd: Etcd) -> Comparison:
    from netplugin.cluster import operate
    from netplugin.kernel.netlink import Netlink
    from netplugin.kernel.overlay.fdb import VxlanFdb
    from netplugin.kernel.overlay.neighbours import Neighbours
    from netplugin.kernel.overlay.tunnel import peers_of
    from netplugin.kernel.overlay.vxlan import VxlanDevices

    with told_in_one_line("pynet"), closing(Netlink()) as netlink:
        view = operate.KernelView(
            tuple(VxlanDevices(netlink).owned()),
            frozenset(VxlanFdb(netlink).owned()),
            frozenset(Neighbours(netlink).owned()),
            peers_of(netlink),
        )
        return operate.compare(etcd, view)


def _agreed(found: Comparison) -> str:
    if not found.networks:
        return "nothing to compare: this host is on no network of the cluster"
    counts = f"entries: {found.entries}, neighbours: {found.neighbours}"
    return f"as etcd says: {', '.join(found.networks)} ({counts})"


def _fixed(etcd: Etcd, state_dir: Path) -> Comparison:
    """The running pynet has read everything again and put it right; return how it is then."""
    from pluginkit import admin
    from pluginkit.doctor.wire import ReconcileAnswer

    with told_in_one_line("pynet"):
        admin.call("pynet", state_dir, "Service.Reconcile", {}, ReconcileAnswer)
    deadline = time.monotonic() + _FIX_PATIENCE_S
    while (found := _compared(etcd)).differences and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _etcd(url: str, ca: Path | None, cert: Path | None, key: Path | None) -> Etcd:
    from netplugin.cluster.access import ClusterSettings, parse_access
    from netplugin.cluster.etcd import Etcd

    return Etcd(parse_access(ClusterSettings(url, ca, cert, key)))
