"""`pynet console`: a page for browsers that shows what pynet and pyvol know."""

from __future__ import annotations

import json
import secrets
import sys
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netplugin.admin.cli import DEFAULT_STATE_DIR, Engines, StateDir
from pluginkit.cli import told_in_one_line
from pluginkit.command import run
from pluginkit.errors import BadRequest, PluginError

if TYPE_CHECKING:
    from console.state import Names

_DOCTOR_S = 120.0


def console(
    listen: Annotated[str, typer.Option(help="Address to answer on; others than the loopback: without TLS.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0: one that is free.")] = 7780,
    name: Annotated[
        list[str] | None, typer.Option(help="Name by which browsers may call this host, besides localhost; repeatable.")
    ] = None,
    engine: Engines = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    pyvol_state_dir: Annotated[
        Path, typer.Option(envvar="PYVOL_STATE_DIR", help="State directory of the pyvol that is asked.")
    ] = Path("/var/lib/pyvol"),
) -> None:
    """Show networks, ports, flows, volumes, drift and events as a live page, until Ctrl-C. It changes nothing.

    It prints the address to open, with a key in it that is made anew at each start. From another machine: ssh -L
    7780:localhost:7780 HOST, and the same address there.
    """
    from console.server import LOOPBACK_NAMES, create_console
    from console.server import listen as listen_on
    from console.watch import Watch

    with told_in_one_line("pynet"):
        address = _parse_address(listen)
        doctors = {
            "pynet": partial(_findings, "pynet", state_dir, engine or ()),
            "pyvol": partial(_findings, "pyvol", pyvol_state_dir, engine or ()),
        }
        watch = Watch(state_dir, pyvol_state_dir, partial(_names, engine), doctors)
        key = secrets.token_urlsafe(24)
        names = {*LOOPBACK_NAMES, address, *(name or ())}
        server = listen_on(create_console(watch.now, key, names), address, port)
    shown = f"[{address}]" if ":" in address else address
    typer.echo(f"http://{shown}:{server.socket.getsockname()[1]}/?key={key}")
    if not ip_address(address).is_loopback:
        typer.echo("pynet: whoever sees the packets sees the key: this is not encrypted", err=True)
    with suppress(KeyboardInterrupt):
        server.serve_forever()


def _parse_address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError as exc:
        raise BadRequest(f"cannot listen on {text}: it is no IP address; the loopback is 127.0.0.1") from exc


def _names(engines: list[Path] | None) -> Names:
    """Return what the engines that there are call things. Raises: Unavailable: one does not answer."""
    from console.state import Names
    from netplugin.engine.api import DEFAULT_ENGINES
    from netplugin.engine.view import look, together

    view = together([look(path) for path in engines or DEFAULT_ENGINES if path.exists()])
    containers = {key: endpoint.container for key, endpoint in view.endpoints.items()}
    return Names({key: network.name for key, network in view.networks.items()}, containers)


def _findings(program: str, state_dir: Path, engines: list[Path] | tuple[()]) -> list[dict[str, Any]]:
    """Return what `doctor` of one of the two says. A process of its own: the plugins do not know each other.

    Raises: PluginError: it could not look.
    """
    # They are installed side by side, and how they find their library only they know.
    argv = [str(Path(sys.argv[0]).with_name(program)), "doctor", "--json", "--state-dir", str(state_dir)]
    argv += [word for path in engines for word in ("--engine", str(path))]
    done = run(argv, timeout_s=_DOCTOR_S, accept=(0, 1))
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)
    except ValueError as exc:
        raise PluginError(done.stderr or "the doctor said nothing") from exc
    return found
