"""Which tracked connections are containers', and whose. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import islice

from netplugin.admin.wire import FlowInfo, FlowsAnswer
from netplugin.machine import Flow
from netplugin.records import Endpoint

# A busy host tracks hundreds of thousands: nobody reads so many, nor should looking at them take seconds.
MOST_READ, MOST_TOLD = 50_000, 500


def told(flows: Iterable[Flow], endpoints: Iterable[Endpoint]) -> FlowsAnswer:
    """Return the connections that come from or go to one of the endpoints, those that carried most first."""
    whose = {
        address.ip: endpoint.id
        for endpoint in endpoints
        for address in (endpoint.address4, endpoint.address6)
        if address is not None
    }
    left = iter(flows)
    read = list(islice(left, MOST_READ))
    theirs = [
        FlowInfo(
            *(flow.protocol, str(flow.source), flow.source_port, str(flow.destination), flow.destination_port),
            *(str(flow.to), flow.to_port, flow.state, flow.packets, flow.bytes),
            *(whose.get(flow.source, ""), whose.get(flow.to, "")),
        )
        for flow in read
        if flow.source in whose or flow.to in whose
    ]
    most = heapq.nlargest(MOST_TOLD, theirs, key=lambda flow: flow.Bytes or 0)
    return FlowsAnswer(tuple(most), len(theirs) - len(most), next(left, None) is None)
