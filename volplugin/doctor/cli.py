"""The command `pyvol doctor`: asks the pyvol that runs, and engines, which pyvol itself never asks."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pluginkit import admin
from pluginkit.cli import Json
from pluginkit.doctor.cli import Fix, ask_engines, run
from pluginkit.errors import PluginError
from volplugin.admin.cli import DEFAULT_STATE_DIR, Name, StateDir, ask

if TYPE_CHECKING:
    from pluginkit.doctor.findings import Finding
    from volplugin.admin.engine import EngineView
    from volplugin.doctor.examine import Sight

Engines = Annotated[
    list[Path] | None,
    typer.Option("--engine", help="Socket of an engine that has volumes of pyvol; repeatable."),
]
# Between two looks that must agree before anybody is said to be gone: a container is being started for less.
_PAUSE_S = 5.0


def add_commands(app: typer.Typer) -> None:
    """The command line has this command."""
    app.command("doctor")(doctor)
    app.command("detach")(detach)


def detach(
    name: Name,
    force: Annotated[
        bool, typer.Option("--force", help="Also while processes use it: they keep what they have open.")
    ] = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Unmount a volume that no container has any more, which was busy when the last one ended."""
    from volplugin.doctor.wire import DetachRequest

    ask(state_dir, "Volumes.Detach", DetachRequest(name, {}, force), dict)
    typer.echo(name)


def doctor(
    fix: Fix = False, json: Json = False, engine: Engines = None, state_dir: StateDir = DEFAULT_STATE_DIR
) -> None:
    """Hold records, engine and kernel against each other; print what is wrong, why, and what helps.

    Ends with 1 if there is a fault or a warning.
    """
    from volplugin.doctor.examine import examine

    def put_right(found: list[Finding], sight: Sight) -> None:
        _put_right(found, sight, state_dir, engine)

    run(lambda: _look(state_dir, engine), examine, put_right, fix=fix, json=json)


def _look(state_dir: Path, engines: list[Path] | None) -> Sight:
    from volplugin.doctor.examine import Sight
    from volplugin.doctor.wire import ServiceAnswer

    before = _ask_engines(engines)
    service = ask(state_dir, "Service.Inspect", {}, ServiceAnswer)
    return Sight(service, before, _ask_engines(engines))


def _put_right(found: Iterable[Finding], sight: Sight, state_dir: Path, engines: list[Path] | None) -> None:
    """What can be put right is, or it was told why not."""
    from volplugin.doctor import examine
    from volplugin.doctor.wire import DetachRequest, HealRequest

    methods = {examine.THAW: "Volumes.Thaw", examine.CLOSE_KEY: "Volumes.CloseKey"}
    wanted = [(finding.fix, finding.subject) for finding in found if finding.fix]
    for fix, name in dict.fromkeys(wanted):
        if fix == examine.RECONCILE:
            _tell(state_dir, "Service.Reconcile", {})
        elif fix in methods:
            _tell(state_dir, methods[fix], HealRequest(name))
    if any(fix == examine.DETACH for fix, _ in wanted):
        time.sleep(_PAUSE_S)
        before = examine.stale(sight)
        for name, volume in examine.stale(_look(state_dir, engines)).items():
            if name in before and before[name].Mounts == volume.Mounts:
                _tell(state_dir, "Volumes.Detach", DetachRequest(name, volume.Mounts))


def _tell(state_dir: Path, method: str, request: object) -> None:
    try:
        admin.call("pyvol", state_dir, method, request, dict)
    except PluginError as exc:
        typer.echo(f"pyvol: {exc}", err=True)


def _ask_engines(engines: list[Path] | None) -> EngineView | None:
    """Return what all engines know that there are; None: there is none, or one does not answer, which was told."""
    from volplugin.admin.engine import DEFAULT_ENGINES, look
    from volplugin.doctor.examine import together

    return ask_engines("pyvol", engines or DEFAULT_ENGINES, look, together)
