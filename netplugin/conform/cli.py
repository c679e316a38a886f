"""`pynet conform`: the cases, played on networks of any driver of an engine on this host."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netplugin.admin.cli import Json
from pluginkit.cli import told_in_one_line
from pluginkit.errors import PluginError


def conform(
    driver: Annotated[list[str], typer.Option(help="Network driver to try; repeatable: side by side.")],
    engine: Annotated[Path, typer.Option(help="Socket of the engine, which runs on this host.")] = Path(
        "/run/docker.sock"
    ),
    case: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Only cases of such a name, as nat-*; repeatable.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit's XML there.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page for a browser there.")] = None,
    json: Json = False,
) -> None:
    """Send packets through networks of a driver's and tell what they do; exit code 1 if a case has failed.

    Makes networks, containers and a link `conform0` meanwhile, in 198.18.0.0/15 and fd98::/16, and publishes ports.
    """
    with told_in_one_line("pynet"):
        try:
            import scapy  # noqa: F401 - an extra
        except ImportError as exc:
            raise PluginError(
                "cannot make packets: scapy is not installed; pip install 'pynet-pyvol[conform]'"
            ) from exc
        from netplugin.conform.catalogue import chosen
        from netplugin.conform.containers import ContainerStage
        from netplugin.conform.verdict import play
        from pluginkit.conform import report
        from pluginkit.engine.api import name_of

        cases = chosen(case or ["*"])
        verdicts = []
        called = name_of(engine)
        for each in dict.fromkeys(driver):
            stage = ContainerStage(engine, each)
            try:
                verdicts += list(play(stage, cases))
            finally:
                stage.close()
        typer.echo(report.written(verdicts, "Packet conformance", called, junit_to=junit, html_to=html, plainly=json))
    if any(verdict.outcome == "failed" for verdict in verdicts):
        raise typer.Exit(1)
