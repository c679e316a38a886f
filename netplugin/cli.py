"""The command line of pynet. What is slow to import is imported by the command that needs it."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from netplugin.admin import cli as admin
from netplugin.capture.cli import capture
from netplugin.cluster.cli import app as cluster_app
from netplugin.conform.cli import conform
from netplugin.console.cli import console
from netplugin.mirror.cli import mirror
from netplugin.overlay.cli import app as network_app
from netplugin.publish.cli import app as publish_app
from netplugin.top.cli import top
from pluginkit import log
from pluginkit.cli import Json, as_json, create_cli, told_in_one_line
from pluginkit.errors import PluginError, Unavailable
from pluginkit.install.cli import add_install_commands

_ANSWER_TIMEOUT_S = 30.0
SOCKET = Path("/run/docker/plugins/pynet.sock")

app = create_cli("pynet", "Docker network driver: bridges with NAT and published ports.")
app.add_typer(cluster_app, name="cluster")
app.add_typer(network_app, name="network")
app.add_typer(publish_app, name="publish")
app.command()(capture)
app.command()(conform)
app.command()(console)
app.command()(mirror)
app.command()(top)
add_install_commands(app, "pynet", "netplugin")
admin.add_commands(app)


@app.command()
def serve(
    socket: Annotated[
        Path, typer.Option(envvar="PYNET_SOCKET", help="Unix socket to answer on; its name is the driver's name.")
    ] = SOCKET,
    state_dir: Annotated[
        Path, typer.Option(envvar="PYNET_STATE_DIR", help="Directory for the records of networks and endpoints.")
    ] = Path("/var/lib/pynet"),
    start_over: Annotated[
        bool,
        typer.Option(
            envvar="PYNET_START_OVER",
            help="Begin with no records although containers use networks of pynet: these are taken away.",
        ),
    ] = False,
    reconcile_every: Annotated[
        float,
        typer.Option(envvar="PYNET_RECONCILE_EVERY", min=5.0, help="Seconds between checks of the kernel."),
    ] = 60.0,
    firewall: Annotated[
        Literal["auto", "iptables", "nftables"],
        typer.Option(envvar="PYNET_FIREWALL", help="What programs the firewall; auto: nftables where it works."),
    ] = "auto",
    pool: Annotated[
        list[str],
        typer.Option(
            envvar="PYNET_POOLS", help="base=NETWORK,size=BITS: room for the pools of --ipam-driver pynet; repeatable."
        ),
    ] = [],  # noqa: B006 - typer copies it
    ephemeral_ports: Annotated[
        str,
        typer.Option(
            envvar="PYNET_EPHEMERAL_PORTS",
            help="FIRST-LAST: host ports for `-p 80` and -P; default: those of net.ipv4.ip_local_port_range.",
        ),
    ] = "",
    scope: Annotated[
        Literal["local", "global"],
        typer.Option(envvar="PYNET_SCOPE", help="global: networks are a swarm's; for the managed plugin on its nodes."),
    ] = "local",
    engine: Annotated[
        list[Path],
        typer.Option(
            envvar="PYNET_ENGINES",
            help="Socket of an engine that is asked for networks that it knows and names of containers; repeatable.",
        ),
    ] = [],  # noqa: B006
    cluster: Annotated[
        str,
        typer.Option(
            envvar="PYNET_CLUSTER",
            help="etcd:// or etcds://[USER:PASSWORD@]HOST[:PORT],…, for overlays without peers.",
        ),
    ] = "",
    cluster_ca: Annotated[
        Path | None, typer.Option(envvar="PYNET_CLUSTER_CA", help="Certificate of etcd's authority, for etcds://.")
    ] = None,
    cluster_cert: Annotated[
        Path | None, typer.Option(envvar="PYNET_CLUSTER_CERT", help="Certificate by which etcd knows this host.")
    ] = None,
    cluster_key: Annotated[Path | None, typer.Option(envvar="PYNET_CLUSTER_KEY", help="Its key.")] = None,
    vtep: Annotated[
        str, typer.Option(envvar="PYNET_VTEP", help="Address by which other hosts reach this one; default: to etcd.")
    ] = "",
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option(envvar="PYNET_LOG_LEVEL", help="What is told of what happens."),
    ] = "info",
) -> None:
    """Answer dockerd until SIGTERM. SIGHUP puts the kernel right at once; networks stay when pynet ends."""
    log.configure(log_level, journald="JOURNAL_STREAM" in os.environ)
    from netplugin.cluster.access import ClusterSettings, parse_access, parse_own_vtep
    from netplugin.ipam.pools import PoolConfig, parse_pool_range
    from netplugin.kinds import STATE_FILE, open_store
    from netplugin.values import parse_port_range
    from pluginkit import listener, service

    with told_in_one_line("pynet"):
        pools = PoolConfig(tuple(map(parse_pool_range, pool))) if pool else PoolConfig()
        ephemeral = parse_port_range(ephemeral_ports) if ephemeral_ports else None
        settings = ClusterSettings(cluster, cluster_ca, cluster_cert, cluster_key, vtep) if cluster else None
        if settings is not None:
            # A mistake in them is told before anything is started.
            parse_access(settings)
            parse_own_vtep(settings)

        def check() -> None:
            if not start_over and not (state_dir / STATE_FILE).exists():
                # Only here: with records it listens before all of this is loaded.
                from netplugin.app import refuse_strangers

                refuse_strangers(state_dir)
            open_store(state_dir).close()

        def start() -> service.Running:
            from netplugin import app as plugin
            from netplugin.engine.api import DEFAULT_ENGINES
            from netplugin.kernel import probe

            backend = probe.firewall() if firewall == "auto" else firewall
            return plugin.start(state_dir, backend, pools, tuple(engine) or DEFAULT_ENGINES, settings, ephemeral, scope)

        # Held, by its descriptor, until this process and its worker end.
        _claimed = listener.claim_network_namespace("pynet")
        service.serve(
            service.Service(
                name="pynet",
                socket=socket,
                state_dir=state_dir,
                reconcile_every_s=reconcile_every,
                check=check,
                load=lambda: import_module("netplugin.app"),
                start=start,
            )
        )


@app.command()
def options(json: Json = False) -> None:
    """Print the options of `docker network create -d pynet -o …`."""
    from netplugin.options import OPTIONS, describe_options

    if json:
        words = ("key", "accepts", "default", "help")
        typer.echo(as_json([{word: getattr(option, word) for word in words} for option in OPTIONS]))
    else:
        typer.echo(describe_options(), nl=False)


@app.command()
def release_pool(
    pool: Annotated[str, typer.Argument(help="PoolID, as an error message names it.")],
    socket: Annotated[Path, typer.Option(envvar="PYNET_SOCKET", help="Unix socket of the running pynet.")] = SOCKET,
) -> None:
    """Free a pool of --ipam-driver pynet whose network the engine no longer knows."""
    with told_in_one_line("pynet"):
        _post(socket, "IpamDriver.ReleasePool", {"PoolID": pool})


@app.command()
def delete_network(
    network: Annotated[str, typer.Argument(help="NetworkID, as the log or `docker network inspect` names it.")],
    socket: Annotated[Path, typer.Option(envvar="PYNET_SOCKET", help="Unix socket of the running pynet.")] = SOCKET,
) -> None:
    """Delete a network that the engine no longer knows; for others use `docker network rm`."""
    with told_in_one_line("pynet"):
        _post(socket, "NetworkDriver.DeleteNetwork", {"NetworkID": network})


def _post(path: Path, method: str, request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of a running pynet to one request.

    Raises: Unavailable: nobody answers there; PluginError: the answer was an error, with its text.
    """
    import http.client
    import json
    import socket

    connection = http.client.HTTPConnection("pynet", timeout=_ANSWER_TIMEOUT_S)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(_ANSWER_TIMEOUT_S)
        connection.sock.connect(str(path))
        connection.request("POST", f"/{method}", json.dumps(request))
        answer = connection.getresponse()
        content: dict[str, Any] = json.loads(answer.read())
    except OSError as exc:
        raise Unavailable(f"cannot ask pynet on {path}: {exc}; is it running?") from exc
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise PluginError(content.get("Err", f"cannot read the answer of pynet on {path}"))
    return content
