"""`pynet network …`: networks in fewer words. What is slow to import is imported by the command."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from pluginkit.cli import told_in_one_line

app = typer.Typer(help="Networks in fewer words than docker takes.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def root() -> None:
    """Networks in fewer words than docker takes."""


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Its name, for the engine and for other hosts.")],
    overlay: Annotated[
        bool, typer.Option("--overlay", help="One network with those of that name on other hosts.")
    ] = False,
    subnet: Annotated[list[str], typer.Option(help="Subnet; one a family.")] = [],  # noqa: B006 - typer copies it
    gateway: Annotated[list[str], typer.Option(help="Gateway of a subnet.")] = [],  # noqa: B006
    peers: Annotated[
        str, typer.Option(help="ADDRESS,…: hosts of an overlay without etcd, this one among them; on each the same.")
    ] = "",
    internal: Annotated[bool, typer.Option("--internal", help="Without a way out.")] = False,
    option: Annotated[list[str], typer.Option("--opt", "-o", help="KEY=VALUE, as for docker.")] = [],  # noqa: B006
    driver: Annotated[str, typer.Option(help="What the engine calls pynet; managed it is pynet:latest.")] = "pynet",
    only_print: Annotated[bool, typer.Option("--print", help="Print the command and do not run it.")] = False,
) -> None:
    """Print the `docker network create` that makes the network on this host, and run it.

    Without --peers addresses of an overlay come from etcd; with them each host gives out its own part of the subnet.
    """
    from contextlib import closing
    from ipaddress import ip_address

    from netplugin.kernel.netlink import Netlink
    from netplugin.overlay.command import Wanted, docker_words
    from netplugin.values import parse_peers
    from pluginkit.command import run
    from pluginkit.errors import BadRequest

    with told_in_one_line("pynet"):
        try:
            hosts = parse_peers(peers) if peers else ()
        except ValueError as exc:
            raise BadRequest(f"cannot use --peers {peers}: it takes IP addresses of one family") from exc
        own = ""
        with closing(Netlink()) as netlink:
            ways = ((host, netlink.way_to(ip_address(host))) for host in hosts)
            own = next((host for host, way in ways if way is not None and way.local), "")
        words = docker_words(
            Wanted(name, driver, overlay, tuple(subnet), tuple(gateway), hosts, own, internal, tuple(option))
        )
        typer.echo(shlex.join(words))
        if not only_print:
            typer.echo(run(words, timeout_s=60).stdout, nl=False)
