"""The command `events` as all plugins have it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from pluginkit import admin, wire
from pluginkit.cli import told_in_one_line
from pluginkit.events.wire import Event, FollowRequest

Follow = Annotated[bool, typer.Option("--follow/--no-follow", help="Go on with what happens, until Ctrl-C.")]


def run(name: str, state_dir: Path, shown: Callable[[Event], str], *, follow: bool, json: bool) -> None:
    """What the plugin remembers was printed, a line an event, and what happened until the end."""
    with told_in_one_line(name), suppress(KeyboardInterrupt):
        for event in admin.lines(name, state_dir, "Events.Follow", FollowRequest(Follow=follow), Event):
            typer.echo(wire.encode(event).decode() if json else shown(event))


def line(event: Event, subject: str) -> str:
    """Return an event as people read it. subject: what it happened to."""
    at = f"{event.At.astimezone():%Y-%m-%d %H:%M:%S}"
    return "  ".join(part for part in (at, event.Kind, subject, event.Text) if part)
