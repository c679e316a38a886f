"""What the page is told: who can reach a port, how volumes grow, what is shown when nobody answers."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from console import state
from console.growth import APART_S, KEPT, Growth
from console.source import Reading, Source
from console.state import NOBODY
from pluginkit.errors import Unavailable


@pytest.mark.parametrize(
    ("address", "sources", "reach"),
    [
        ("0.0.0.0", [], "anybody"),
        ("::", [], "anybody"),
        ("127.0.0.1", [], "host"),
        ("::1", [], "host"),
        ("127.0.0.1", ["10.0.0.0/8"], "host"),
        ("0.0.0.0", ["10.0.0.0/8"], "some"),
        ("192.0.2.1", [], "one-address"),
    ],
)
def test_who_reaches_a_port(address: str, sources: list[str], reach: str) -> None:
    port = {"Protocol": "tcp", "Address": address, "HostPort": 80, "HostPortEnd": 89, "Port": 8000, "From": sources}
    end = {"ID": "e" * 64, "Addresses": ["10.9.0.2/24"], "MAC": "", "Link": "", "Sandbox": "", "Ports": [port]}
    network = {
        "ID": "f" * 64, "Type": "bridge", "Bridge": "", "Subnets": [], "Internal": False, "Alone": False, "MTU": 1500,
        "Options": {}, "Endpoints": [end], "Hosts": [], "Elsewhere": 0,
    }  # fmt: skip
    flows = {"Flows": [], "More": 0, "IsWhole": True}
    seen = {"service": {"Version": "1", "Firewall": "nftables"}, "networks": [network], "ways": [], "flows": flows}
    port["Until"] = None  # type: ignore[assignment]
    told = state.pynet(Reading(seen, datetime.now(UTC), ""), NOBODY, "here")
    [row] = told["ports"]
    assert (row["reach"], row["host_ports"], row["ports"]) == (reach, "80-89", "8000-8009")
    assert told["counts"]["open"] == (reach == "anybody")


def test_who_never_answered_has_no_rows_and_says_why() -> None:
    never = Reading[state.Row](None, None, "cannot reach pynet")
    assert state.pynet(never, NOBODY, "here")["error"] == "cannot reach pynet"
    assert "networks" not in state.pynet(never, NOBODY, "here")
    assert state.pyvol(never, Growth()) == {"at": None, "error": "cannot reach pynet"}


def test_growth_is_remembered_for_a_day_and_no_longer_than_the_volume() -> None:
    growth = Growth()
    for minute in range(2 * KEPT):
        growth.note(minute * APART_S, {"v": minute})
        growth.note(minute * APART_S + 1, {"v": minute + 7})
    line, grown, seconds = growth.of("v")
    assert (line[-1], grown, seconds) == (2 * KEPT - 1, KEPT - 1, (KEPT - 1) * APART_S)
    assert len(line) == 60
    growth.note(1e9, {})
    assert growth.of("v") == ([], 0, 0.0)


def test_what_hangs_makes_nobody_wait_and_what_fails_keeps_what_was_seen() -> None:
    hangs, fails = threading.Event(), threading.Event()

    def look() -> int:
        if fails.is_set():
            hangs.wait(60)
            raise Unavailable("gone")
        return 1

    source = Source("number", look, 0.0)
    source.start()
    first = source.read()
    assert (first.value, first.error) == (1, "")
    fails.set()
    # It hangs by now, or will; either way there is an answer.
    assert source.read().value == 1
    hangs.set()
    for _ in range(1000):
        if source.read().error:
            break
        threading.Event().wait(0.01)
    reading = source.read()
    assert (reading.value, reading.error) == (1, "gone")
    assert reading.at is not None
