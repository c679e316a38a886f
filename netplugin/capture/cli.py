"""`pynet capture`: what a container or a network sends and receives."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable
from contextlib import ExitStack, closing, suppress
from ipaddress import IPv4Address, IPv6Address, ip_interface
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netplugin.admin.cli import DEFAULT_STATE_DIR, Engines, StateDir, known_networks, names_of
from pluginkit.cli import told_in_one_line
from pluginkit.errors import NotFound, PluginError

if TYPE_CHECKING:
    from netplugin.admin.wire import NetworkInfo
    from netplugin.engine.view import EngineView
    from netplugin.kernel.traffic.taps import Frame


def capture(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A running container, or a network.")],
    write: Annotated[str, typer.Option("--write", "-w", metavar="FILE", help="pcapng; -: to standard output.")],
    lasting: Annotated[str, typer.Option("--for", metavar="SPAN", help="How long: 30s, 10m. Else until Ctrl-C.")] = "",
    count: Annotated[int, typer.Option(min=0, help="End after so many frames; 0: do not.")] = 0,
    engine: Engines = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Write the frames of a container or a network, with the names of containers, VXLAN peeled off.

    A network's are those that pass the links which its containers on this host have when it begins, and, of an
    overlay, those from and to other hosts. Direction is as the container sees it.
    """
    from netplugin.capture import pcapng
    from netplugin.kernel.traffic.taps import Taps
    from netplugin.publish.cli import parse_span

    found, names = known_networks(state_dir), names_of(engine)
    seen = 0
    with told_in_one_line("pynet"), ExitStack() as open_things:
        span = parse_span(lasting) or None
        links = links_of(target, found, names)
        taps = open_things.enter_context(closing(Taps([link for link, _ in links])))
        # An exception would lose the frame that is in hand, or write half of it.
        before = signal.signal(signal.SIGINT, lambda *_: taps.end())
        try:
            file = sys.stdout.buffer if write == "-" else open_things.enter_context(Path(write).open("wb"))
        except OSError as exc:
            raise PluginError(f"cannot write {write}: {exc.strerror}") from exc
        file.write(pcapng.section("pynet"))
        for _, name in links:
            file.write(pcapng.interface(name))
        file.write(pcapng.names(_addresses(found, names)))
        file.flush()

        def record(frames: Iterable[Frame]) -> None:
            nonlocal seen
            for frame in frames:
                # What the host's end receives, the container has sent.
                file.write(pcapng.packet(frame.place, frame.at_ns, frame.data, inbound=not frame.received))
                file.flush()
                seen += 1
                if seen == count:
                    return

        record(taps.frames(span))
        signal.signal(signal.SIGINT, before)
        # On a busy host much that was sent before the end is still to be read.
        if not count or seen < count:
            with suppress(KeyboardInterrupt):
                record(taps.waiting())
    typer.echo(f"{seen} frames of {', '.join(name for _, name in links)}", err=True)


def links_of(target: str, networks: Iterable[NetworkInfo], names: EngineView) -> list[tuple[str, str]]:
    """Return the links of a container or of a network, by its name or the start of its ID, and what to call them.

    Raises: NotFound: there is neither.
    """
    from netplugin.overlay.plan import device_name

    links = []
    for network in networks:
        name = names.network_name(network.ID)
        whole = target == name or (len(target) >= 4 and network.ID.startswith(target))
        for endpoint in network.Endpoints:
            container = names.container_name(endpoint.ID)
            if endpoint.Sandbox and (whole or container == target):
                links.append((endpoint.Link, f"{container} on {name}"))
        if whole and network.Type == "overlay":
            links.append((device_name(network.ID), f"other hosts on {name}"))
    if not links:
        raise NotFound(
            f"cannot capture {target}: there is neither a container nor a network of pynet's with one, of that name"
        )
    return links


def _addresses(networks: Iterable[NetworkInfo], names: EngineView) -> dict[IPv4Address | IPv6Address, str]:
    return {
        ip_interface(address).ip: names.container_name(endpoint.ID)
        for network in networks
        for endpoint in network.Endpoints
        for address in endpoint.Addresses
    }
