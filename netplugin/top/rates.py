"""From what links have carried to what they carry each second. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from netplugin.admin.wire import NetworkInfo
from netplugin.engine.view import EngineView
from netplugin.machine import Count
from pluginkit.cli import columns


@dataclass(frozen=True)
class Rate:
    """What an endpoint sends and receives each second, and what was dropped on its link meanwhile."""

    container: str
    network: str
    sent_bits: float
    received_bits: float
    sent_packets: float
    received_packets: float
    dropped: int


def rates(
    networks: Iterable[NetworkInfo], names: EngineView, before: Mapping[str, Count], after: Mapping[str, Count],
    seconds: float,
) -> list[Rate]:  # fmt: skip
    """Return the rates of the endpoints whose links were there before and after, those that carry most first."""
    found = []
    for network in networks:
        for endpoint in network.Endpoints:
            then, now = before.get(endpoint.Link), after.get(endpoint.Link)
            if then is not None and now is not None:
                container, name = names.container_name(endpoint.ID), names.network_name(network.ID)
                found.append(_rate(container, name, then, now, seconds))
    return sorted(found, key=lambda rate: (-rate.sent_bits - rate.received_bits, rate.container))


def table(found: Iterable[Rate]) -> str:
    """Return a line an endpoint."""
    rows = [("CONTAINER", "NETWORK", "SENDS", "PACKETS/S", "RECEIVES", "PACKETS/S", "DROPPED")]
    rows += [
        (
            rate.container, rate.network, bits(rate.sent_bits), f"{rate.sent_packets:.0f}", bits(rate.received_bits),
            f"{rate.received_packets:.0f}", str(rate.dropped),
        )
        for rate in found
    ]  # fmt: skip
    return columns(rows)


def bits(per_second: float) -> str:
    """Return a rate as the options say rates: decimal prefixes."""
    for unit, size in (("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3)):
        if per_second >= size:
            return f"{per_second / size:.1f}{unit}"
    return f"{per_second:.0f}bit"


def _rate(container: str, network: str, before: Count, after: Count, seconds: float) -> Rate:
    def each_second(name: str) -> float:
        return float(getattr(after, name) - getattr(before, name)) / seconds

    dropped = after.rx_dropped + after.tx_dropped - before.rx_dropped - before.tx_dropped
    return Rate(
        container, network, 8 * each_second("rx_bytes"), 8 * each_second("tx_bytes"), each_second("rx_packets"),
        each_second("tx_packets"), dropped,
    )  # fmt: skip
