"""`pynet conform`: the cases, played on networks of any driver of an engine on this host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from pluginkit.cli import Json, told_in_one_line
from pluginkit.conform.cli import DEFAULT_ENGINE, Engine, Html, JUnit, side_by_side
from pluginkit.errors import PluginError

if TYPE_CHECKING:
    from pluginkit.conform.verdict import Verdict


def conform(
    driver: Annotated[list[str], typer.Option(help="Network driver to try; repeatable: side by side.")],
    engine: Engine = DEFAULT_ENGINE,
    case: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Only cases of such a name, as nat-*; repeatable.")
    ] = None,
    junit: JUnit = None,
    html: Html = None,
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
        from netplugin.conform.catalogue import CASES
        from netplugin.conform.containers import ContainerStage
        from netplugin.conform.verdict import play
        from pluginkit.conform.catalogue import chosen

        cases = chosen(CASES, case or ["*"])

        def played(name: str) -> Iterator[Verdict]:
            with closing(ContainerStage(engine, name)) as stage:
                yield from play(stage, cases)

        side_by_side("Packet conformance", engine, driver, played, junit=junit, html=html, json=json)
