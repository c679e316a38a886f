"""The administrator's commands: each asks the pynet that runs, by its socket in the state directory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pluginkit.cli import AlwaysJson, Json, as_json, told_in_one_line
from pluginkit.doctor.cli import Fix, ask_engines, run
from pluginkit.errors import NotFound
from pluginkit.events.cli import Follow

if TYPE_CHECKING:
    from netplugin.admin.doctor import Sight
    from netplugin.admin.wire import NetworkInfo
    from netplugin.engine.view import EngineView
    from pluginkit.doctor.findings import Finding
    from pluginkit.events.wire import Event

T = TypeVar("T")

StateDir = Annotated[Path, typer.Option(envvar="PYNET_STATE_DIR", help="State directory of the pynet that is asked.")]
Engines = Annotated[
    list[Path] | None,
    typer.Option("--engine", envvar="PYNET_ENGINES", help="Socket of an engine that knows names; repeatable."),
]
DEFAULT_STATE_DIR = Path("/var/lib/pynet")


def add_commands(app: typer.Typer) -> None:
    """The command line has the administrator's commands."""
    app.command("ls")(list_networks)
    app.command("inspect")(inspect)
    app.command("api")(api)
    app.command("endpoints")(endpoints)
    app.command("ports")(ports)
    app.command("explain")(explain)
    app.command("doctor")(doctor)
    app.command("rules")(rules)
    app.command("events")(events)


def api(json: AlwaysJson = True) -> None:  # noqa: ARG001
    """Print the description of the socket for administrators, as OpenAPI."""
    from netplugin.admin.api import METHODS
    from pluginkit.openapi.description import describe

    typer.echo(as_json(describe("pynet", METHODS)))


def list_networks(json: Json = False, engine: Engines = None, state_dir: StateDir = DEFAULT_STATE_DIR) -> None:
    """List the networks of this host: what they are, and how much is in them."""
    from netplugin.admin import present

    found = known_networks(state_dir)
    typer.echo(as_json(found) if json else present.networks(found, names_of(engine)))


def inspect(
    networks: Annotated[list[str], typer.Argument(metavar="NETWORK...", help="Names or IDs, or the start of an ID.")],
    json: AlwaysJson = True,  # noqa: ARG001
    engine: Engines = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Print everything that is known of networks, as JSON."""
    found, names = known_networks(state_dir), names_of(engine)
    with told_in_one_line("pynet"):
        typer.echo(as_json([_find(wanted, found, names) for wanted in networks]))


def endpoints(json: Json = False, engine: Engines = None, state_dir: StateDir = DEFAULT_STATE_DIR) -> None:
    """List the endpoints on this host: whose they are, and what they have."""
    from netplugin.admin import present

    found = known_networks(state_dir)
    told = {network.ID: network.Endpoints for network in found}
    typer.echo(as_json(told) if json else present.endpoints(found, names_of(engine)))


def ports(json: Json = False, engine: Engines = None, state_dir: StateDir = DEFAULT_STATE_DIR) -> None:
    """List the published ports: where they are open, to whom, and where they lead. `docker ps` does not show them."""
    from netplugin.admin import present

    found = known_networks(state_dir)
    told = {endpoint.ID: endpoint.Ports for network in found for endpoint in network.Endpoints if endpoint.Ports}
    typer.echo(as_json(told) if json else present.ports(found, names_of(engine)))


def explain(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help='A container, an address, or "host".')],
    destination: Annotated[str, typer.Argument(metavar="DESTINATION", help="A container or an address.")],
    port: Annotated[str, typer.Argument(metavar="[PORT[/PROTOCOL]]", help="80, 53/udp; without it: ping.")] = "",
    probe: Annotated[bool, typer.Option("--probe", help="Send one, too; show where it was seen here.")] = False,
    json: Json = False,
    engine: Engines = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Say whether a packet gets there, and what decides that. Ends with 1 if it is dropped.

    With --probe, whoever listens there gets it: a ping, sixteen bytes by UDP, a connection that is opened and reset.
    Ends with 2 if something else becomes of it than was said.
    """
    from contextlib import closing

    from netplugin.admin import ends
    from netplugin.admin.wire import ExplainAnswer, ExplainRequest
    from netplugin.kernel.netlink import Netlink

    found, names = known_networks(state_dir), names_of(engine)
    with told_in_one_line("pynet"), closing(Netlink()) as netlink:
        number, protocol = ends.parse_port(port)
        start, goal = ends.ends(source, destination, found, names)
        if start is not None and (way := netlink.way_to(start)) and way.local:
            start = None
        way = netlink.way_to(goal)
        request = ExplainRequest(str(start or ""), str(goal), bool(way and way.local), protocol, number)
    answer = ask(state_dir, "Packets.Explain", ExplainAnswer, request)
    probed = None
    if probe:
        from netplugin.probe import cli

        with told_in_one_line("pynet"):
            probed = cli.probe(start, goal, protocol, number, answer.Verdict, found, names)
    if json:
        typer.echo(as_json({"Verdict": answer.Verdict, "Steps": answer.Steps, **({"Probe": probed} if probed else {})}))
    else:
        typer.echo(f"{start or 'the host'} to {goal} {port or 'by ping'}: {answer.Verdict}")
        for step in answer.Steps:
            typer.echo("  " + names.named(step))
        if probed:
            typer.echo(cli.told(probed))
    if probed and probed.Agrees is False:
        raise typer.Exit(2)
    if answer.Verdict == "dropped":
        raise typer.Exit(1)


def rules(
    network: Annotated[str, typer.Argument(metavar="[NETWORK]", help="That network alone.")] = "",
    json: Json = False,
    engine: Engines = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Print the firewall rules of networks and containers, each chain with what it is for."""
    from netplugin.admin import present
    from netplugin.admin.wire import RulesAnswer

    names = names_of(engine)
    with told_in_one_line("pynet"):
        wanted = _find(network, known_networks(state_dir), names).ID if network else ""
    chains = [each for each in ask(state_dir, "Rules.List", RulesAnswer).Chains if wanted in ("", each.NetworkID)]
    typer.echo(as_json(chains) if json else present.rules(chains, names))


def events(
    follow: Follow = True, json: Json = False, engine: Engines = None, state_dir: StateDir = DEFAULT_STATE_DIR
) -> None:
    """Print what has happened to networks, endpoints and ports, to them by others, and what failed; then what happens.

    Names are those that engines had when it began, so that it never waits for one.
    """
    from pluginkit.events import cli

    names = names_of(engine)

    def shown(event: Event) -> str:
        subject = names.container_name(event.ID) if event.Of else names.network_name(event.ID)
        return cli.line(event, f"{subject} on {names.network_name(event.Of)}" if event.Of else subject)

    cli.run("pynet", state_dir, shown, follow=follow, json=json)


def doctor(
    fix: Fix = False, json: Json = False, engine: Engines = None, state_dir: StateDir = DEFAULT_STATE_DIR
) -> None:
    """Hold records, engine and kernel against each other; print what is wrong, why, and what helps.

    Ends with 1 if there is a fault or a warning.
    """
    from netplugin.admin.doctor import examine

    def put_right(found: list[Finding], _: Sight) -> None:
        _put_right(found, state_dir)

    run(lambda: _look(state_dir, engine), examine, put_right, fix=fix, json=json)


def _look(state_dir: Path, engines: list[Path] | None) -> Sight:
    from contextlib import closing

    from netplugin.admin.doctor import Sight
    from netplugin.admin.wire import ServiceAnswer, WaysAnswer
    from netplugin.kernel.facts import host_facts
    from netplugin.kernel.netlink import Netlink

    before = _ask_engines(engines)
    service, networks = ask(state_dir, "Service.Inspect", ServiceAnswer), known_networks(state_dir)
    ways = ask(state_dir, "Ways.List", WaysAnswer).Ways
    after = _ask_engines(engines)
    with told_in_one_line("pynet"), closing(Netlink()) as netlink:
        peers = {peer for network in networks for peer in network.Hosts}
        return Sight(service, networks, before, after, host_facts(netlink, peers), ways)


def _put_right(found: Iterable[Finding], state_dir: Path) -> None:
    """What can be put right is, or could not be."""
    from pluginkit.doctor.wire import ReconcileAnswer

    for fix in dict.fromkeys(finding.fix for finding in found):
        if fix == "reconcile":
            ask(state_dir, "Service.Reconcile", ReconcileAnswer)
        elif fix == "collect":
            # Ten seconds: what it deletes, two looks must have missed.
            ask(state_dir, "Service.Collect", dict)


def known_networks(state_dir: Path) -> tuple[NetworkInfo, ...]:
    """Return all networks of the pynet that runs."""
    from netplugin.admin.wire import NetworksAnswer

    return ask(state_dir, "Networks.List", NetworksAnswer).Networks


def _find(wanted: str, found: Iterable[NetworkInfo], names: EngineView) -> NetworkInfo:
    named = [each for each in found if names.network_name(each.ID) == wanted or each.ID.startswith(wanted)]
    if len(named) != 1:
        reason = "several networks are meant" if named else "there is none; see pynet ls"
        raise NotFound(f"cannot find network {wanted}: {reason}")
    return named[0]


def names_of(engines: list[Path] | None) -> EngineView:
    """Return what the engines call things; nothing if they cannot be asked: IDs do then."""
    from netplugin.engine.view import EngineView

    return _ask_engines(engines) or EngineView({}, {})


def _ask_engines(engines: list[Path] | None) -> EngineView | None:
    """Return what all engines know that there are; None: there is none, or one does not answer, which was told."""
    from netplugin.engine.api import DEFAULT_ENGINES
    from netplugin.engine.view import look, together

    return ask_engines("pynet", engines or DEFAULT_ENGINES, look, together)


def ask(state_dir: Path, method: str, wanted: type[T], request: Any = None) -> T:
    """Return what the pynet that runs answers; an error of its ends the process, and was told."""
    from pluginkit import admin

    with told_in_one_line("pynet"):
        return admin.call("pynet", state_dir, method, {} if request is None else request, wanted)
