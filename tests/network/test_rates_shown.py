"""`pynet top`: from counters to what is shown."""

from __future__ import annotations

from netplugin.admin.wire import EndpointInfo, NetworkInfo
from netplugin.engine.view import EngineEndpoint, EngineNetwork, EngineView
from netplugin.machine import Count
from netplugin.top.rates import bits, rates, table

ENDPOINTS = tuple(EndpointInfo(f"e{n}", "", (), f"pnve{n}", "s", ()) for n in range(3))
NETWORK = NetworkInfo("n1", "bridge", "pn-n1", (), False, 1500, {}, ENDPOINTS)
NAMES = EngineView({"n1": EngineNetwork("blue", "pynet")}, {f"e{n}": EngineEndpoint(f"c{n}", "n1") for n in range(3)})


def test_those_that_carry_most_come_first_and_new_links_wait() -> None:
    before = {"pnve0": Count(100, 100, 1, 1, 0, 0), "pnve1": Count(0, 0, 0, 0, 5, 0)}
    after = {"pnve0": Count(350, 100, 3, 1, 0, 0), "pnve1": Count(250_000, 500, 200, 4, 6, 1), "pnve2": Count(*[9] * 6)}
    lines = table(rates([NETWORK], NAMES, before, after, 2.0)).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["c1", "blue", "1.0mbit", "100", "2.0kbit", "2", "2"],
        ["c0", "blue", "1.0kbit", "1", "0bit", "0", "0"],
    ]


def test_units() -> None:
    assert [bits(rate) for rate in (0, 999, 1000, 2.5e6, 1e10)] == ["0bit", "999bit", "1.0kbit", "2.5mbit", "10.0gbit"]
