"""`pynet top`: who sends and receives how much."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from typing import Annotated

import typer

from netplugin.admin.cli import DEFAULT_STATE_DIR, Engines, StateDir, known_networks, names_of
from pluginkit.cli import Json, as_json


def top(
    every: Annotated[float, typer.Option(min=0.2, help="Seconds over which rates are measured.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one measurement and end.")] = False,
    json: Json = False,
    engine: Engines = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Show what containers send and receive, those that carry most first. On a terminal until Ctrl-C."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from netplugin.kernel.netlink import Netlink
    from netplugin.kernel.traffic.counters import counts
    from netplugin.top import rates

    def measured() -> list[rates.Rate]:
        """Return the rates of the next `every` seconds."""
        networks, names = known_networks(state_dir), names_of(engine)
        with closing(Netlink()) as netlink:
            before, began = counts(netlink), time.monotonic()
            time.sleep(every)
            after, seconds = counts(netlink), time.monotonic() - began
        return rates.rates(networks, names, before, after, seconds)

    console = Console()
    if once or json or not console.is_terminal:
        found = measured()
        typer.echo(as_json(found) if json else rates.table(found))
        return
    with suppress(KeyboardInterrupt), Live(Text("…"), console=console, screen=True) as live:
        while True:
            live.update(Text(rates.table(measured()), no_wrap=True), refresh=True)
