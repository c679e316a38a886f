"""The command line of pynet. What is slow to import is imported by the command that needs it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pluginkit import log
from pluginkit.cli import create_cli, told_in_one_line
from pluginkit.errors import PluginError, Unavailable

_ANSWER_TIMEOUT_S = 30.0
SOCKET = Path("/run/docker/plugins/pynet.sock")

app = create_cli("pynet", "Docker network driver: bridges with NAT and published ports.")


@app.command()
def serve(
    socket: Annotated[
        Path, typer.Option(envvar="PYNET_SOCKET", help="Unix socket to answer on; its name is the driver's name.")
    ] = SOCKET,
    state_dir: Annotated[
        Path, typer.Option(envvar="PYNET_STATE_DIR", help="Directory for the records of networks and endpoints.")
    ] = Path("/var/lib/pynet"),
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
    log_level: Annotated[str, typer.Option(envvar="PYNET_LOG_LEVEL", help="debug, info, warning or error.")] = "info",
) -> None:
    """Answer dockerd until SIGTERM. SIGHUP puts the kernel right at once; networks stay when pynet ends."""
    log.configure(log_level, journald="JOURNAL_STREAM" in os.environ)
    from netplugin import app as plugin
    from netplugin.ipam.pools import PoolConfig, parse_pool_range
    from netplugin.kernel import probe
    from pluginkit import listener, service

    with told_in_one_line("pynet"):
        pools = PoolConfig(tuple(map(parse_pool_range, pool))) if pool else plugin.DEFAULT_POOLS
        backend = probe.firewall() if firewall == "auto" else firewall
        # Held, by its descriptor, until this process and its worker end.
        _claimed = listener.claim_network_namespace("pynet")
        service.serve(
            service.Service(
                name="pynet",
                socket=socket,
                state_dir=state_dir,
                reconcile_every_s=reconcile_every,
                check=lambda: plugin.open_store(state_dir).close(),
                start=lambda: plugin.start(state_dir, backend, pools),
            )
        )


@app.command()
def options() -> None:
    """Print the options of `docker network create -d pynet -o …`."""
    from netplugin.options import describe_options

    typer.echo(describe_options(), nl=False)


@app.command()
def release_pool(
    pool: Annotated[str, typer.Argument(help="PoolID, as an error message names it.")],
    socket: Annotated[Path, typer.Option(envvar="PYNET_SOCKET", help="Unix socket of the running pynet.")] = SOCKET,
) -> None:
    """Free a pool of --ipam-driver pynet whose network the engine no longer knows."""
    with told_in_one_line("pynet"):
        _post(socket, "IpamDriver.ReleasePool", {"PoolID": pool})


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
