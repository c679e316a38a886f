"""`pynet explain --probe`: a packet is sent from its source's namespace, and all links of the host are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Literal

from netplugin.admin.wire import EndpointInfo, NetworkInfo
from netplugin.engine.view import EngineView
from netplugin.kernel.traffic.sending import Sender
from netplugin.kernel.traffic.taps import Everywhere
from netplugin.probe.judge import Course, Seen, Transport
from pluginkit.errors import BadRequest

Address = IPv4Address | IPv6Address
# What is not there by then does not come: the kernel sends a lost first packet again after one second.
_PATIENCE_S = 2.5
# What else there is of it when it has got somewhere.
_AFTERWARDS_S = 0.2


@dataclass(frozen=True)
class Probed:
    """What became of a packet. Seen: in that order. Reached: whom it got to, or by which link it left; "": nobody.

    Agrees: whether that is what was explained; None: that was left open. Unsent: why it could not be sent.
    Missed: how many frames were not looked at, for there were too many.
    """

    Seen: tuple[Seen, ...]
    Reached: str
    Agrees: bool | None
    Unsent: str
    Missed: int


def probe(
    source: Address | None,
    to: Address,
    protocol: Transport | Literal["sctp"],
    port: int,
    verdict: str,
    networks: Sequence[NetworkInfo],
    names: EngineView,
) -> Probed:
    """A packet was sent; return what became of it. source: None: the host's.

    Raises: BadRequest: the source is not here, or SCTP, which few kernels have; KernelError: its namespace cannot be
    entered.
    """
    if protocol == "sctp":
        raise BadRequest("cannot send a packet by SCTP; leave out --probe, or ask for tcp or udp")
    endpoint = _endpoint_of(source, networks) if source is not None else None
    course = Course(protocol, endpoint, networks, names)
    namespace = Path(endpoint.Sandbox) if endpoint is not None else None
    with closing(Sender(namespace, source, to, protocol)) as sender, closing(Everywhere()) as taps:
        course.expect(sender.mark, sender.port)
        unsent = sender.send(port)
        for frame in taps.frames(_PATIENCE_S):
            course.see(frame.link, frame.data, received=frame.received)
            if course.reached or unsent:
                break
        for frame in taps.frames(_AFTERWARDS_S):
            course.see(frame.link, frame.data, received=frame.received)
        return Probed(tuple(course.seen), course.reached, course.agrees(verdict), unsent, taps.missed())


def told(probed: Probed) -> str:
    """Return it as people read it."""
    lines = ["a packet was sent, and seen"]
    where = [f"  {each.Direction:3}  {each.Link:15}  {each.What}" for each in probed.Seen]
    lines += where or ["  nowhere on this host"]
    if probed.Unsent:
        lines.append(f"the kernel did not send it: {probed.Unsent}")
    if probed.Missed:
        lines.append(f"{probed.Missed} frames were too many to be looked at: it may have been seen elsewhere, too")
    end = f"it went to {probed.Reached}" if probed.Reached else "it went no further"
    agreement = {True: "as explained", False: "which is NOT as explained", None: "which the explanation leaves open"}
    return "\n".join([*lines, f"{end}, {agreement[probed.Agrees]}"])


def _endpoint_of(source: Address, networks: Sequence[NetworkInfo]) -> EndpointInfo:
    for network in networks:
        for endpoint in network.Endpoints:
            if endpoint.Sandbox and str(source) in {each.partition("/")[0] for each in endpoint.Addresses}:
                return endpoint
    raise BadRequest(f"cannot send a packet from {source}: no running container on this host has it; leave out --probe")
