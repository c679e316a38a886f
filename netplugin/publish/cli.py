"""`pynet publish`: ports of containers that run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from netplugin.admin.cli import DEFAULT_STATE_DIR, Engines, StateDir, ask, known_networks, names_of
from pluginkit.cli import told_in_one_line
from pluginkit.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from netplugin.admin.wire import PublishRequest

Protocol = Literal["tcp", "udp", "sctp"]

app = typer.Typer(help="Ports of containers that run.", no_args_is_help=True, rich_markup_mode=None)

Network = Annotated[str, typer.Option(help="That of the container's networks which is meant, if it has several.")]
Container = Annotated[str, typer.Argument(metavar="CONTAINER", help="A running container.")]

_PORTS = re.compile(
    r"(?:(?P<address>.+):)?(?P<host>\d{1,5})(?:-(?P<last>\d{1,5}))?:(?P<port>\d{1,5})(?:-(?P<end>\d{1,5}))?"
)
_SPAN = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@app.command()
def add(
    container: Container,
    ports: Annotated[str, typer.Argument(metavar="[ADDRESS:]HOST:PORT[/PROTOCOL]", help="As with -p; ranges, too.")],
    sources: Annotated[
        str,
        typer.Option(
            "--from", metavar="CIDR,…", help="Who may use it: networks, lan, localhost. Else as the network says."
        ),
    ] = "",
    lasting: Annotated[str, typer.Option("--for", metavar="SPAN", help="How long: 30s, 10m, 2h, 1d.")] = "",
    network: Network = "",
    engine: Engines = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Publish a port of a container that runs, until it ends or for a while."""
    from dataclasses import replace

    with told_in_one_line("pynet"):
        network_id, endpoint_id = _endpoint(container, network, state_dir, engine)
        request = replace(
            parse_ports(ports), NetworkID=network_id, EndpointID=endpoint_id, From=sources, Seconds=parse_span(lasting)
        )
    ask(state_dir, "Ports.Publish", dict, request)


@app.command()
def rm(
    container: Container,
    port: Annotated[str, typer.Argument(metavar="HOST[/PROTOCOL]", help="Its first port of the host.")],
    network: Network = "",
    engine: Engines = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Close what was published by `add`."""
    from netplugin.admin.ends import parse_port
    from netplugin.admin.wire import UnpublishRequest

    with told_in_one_line("pynet"):
        number, protocol = parse_port(port)
        if protocol == "icmp":
            raise BadRequest("cannot unpublish nothing: say which port")
        network_id, endpoint_id = _endpoint(container, network, state_dir, engine)
    ask(state_dir, "Ports.Unpublish", dict, UnpublishRequest(network_id, endpoint_id, protocol, number))


def parse_ports(text: str) -> PublishRequest:
    """Return [ADDRESS:]HOST[-LAST]:PORT[-END][/PROTOCOL], of no endpoint yet. Raises: BadRequest."""
    from netplugin.admin.wire import PublishRequest

    ports, _, protocol = text.partition("/")
    match = _PORTS.fullmatch(ports)
    if match is None or protocol not in ("", "tcp", "udp", "sctp"):
        raise BadRequest(f"cannot publish {text}: write 8080:80, 127.0.0.1:8080:80/tcp or 9000-9009:9000-9009/udp")
    host, last, port, end = (int(match[name] or 0) for name in ("host", "last", "port", "end"))
    if (last or host) - host != (end or port) - port or (last and last < host):
        raise BadRequest(f"cannot publish {text}: the two ranges are not of one length")
    transport: Protocol = "udp" if protocol == "udp" else "sctp" if protocol == "sctp" else "tcp"
    return PublishRequest("", "", transport, host, port, last, (match["address"] or "").strip("[]"))


def parse_span(text: str) -> float:
    """Return seconds from 30s, 10m, 2h, 1d; 0 from "". Raises: BadRequest."""
    match = _SPAN.fullmatch(text)
    if text and (match is None or int(match[1]) == 0):
        raise BadRequest(f"cannot publish for {text}: write 30s, 10m, 2h or 1d")
    return int(match[1]) * _SECONDS[match[2]] if match else 0


def _endpoint(container: str, network: str, state_dir: Path, engine: list[Path] | None) -> tuple[str, str]:
    """Return the IDs of the network and the endpoint that are meant."""
    names = names_of(engine)
    found = [
        (each.ID, endpoint.ID)
        for each in known_networks(state_dir) for endpoint in each.Endpoints
        if names.container_name(endpoint.ID) == container and network in ("", names.network_name(each.ID))
    ]  # fmt: skip
    if not found:
        where = f"network {network}" if network else "a network of pynet's"
        raise NotFound(f"cannot find {container}: no container of that name runs on {where}")
    if len(found) > 1:
        told = ", ".join(names.network_name(each) for each, _ in found)
        raise BadRequest(f"cannot tell which network of {container} is meant, {told}: say --network")
    return found[0]
