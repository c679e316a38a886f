"""`pynet explain --probe` beside a real pynet: what is sent goes where the rules of both firewalls let it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, TypeVar

import pytest

from netplugin.admin.wire import ExplainAnswer, ExplainRequest, NetworksAnswer
from netplugin.engine.view import EngineView
from netplugin.probe.cli import Probed, probe, told
from netplugin.probe.judge import Transport
from pluginkit import admin
from pluginkit.errors import BadRequest
from tests.network.engine import Engine, ids, port
from tests.network.samples import ENDPOINT_ID, NETWORK_ID, OTHER_ENDPOINT_ID
from tests.network.sandboxes import Sandbox, command
from tests.serving import Serving

OTHER_NETWORK = "2b2b2b2b" * 8
WEB, CLIENT, STRANGER = "10.9.0.2", "10.9.0.3", "10.8.0.2"
BRIDGE, OTHER_BRIDGE = f"pn-{NETWORK_ID[:8]}", f"pn-{OTHER_NETWORK[:8]}"
T = TypeVar("T")
Protocol = Transport | Literal["sctp"]
STRANGERS = "a1a2a3a4" * 8
LINKS = {WEB: f"pnv{ENDPOINT_ID[:8]}", CLIENT: f"pnv{OTHER_ENDPOINT_ID[:8]}", STRANGER: f"pnv{STRANGERS[:8]}"}


@dataclass(frozen=True)
class Place:
    """A host with two networks: web, which publishes its port 80 as 8080, and client; and a stranger."""

    serving: Serving

    def probed(
        self, source: str, to: str, port: int = 0, protocol: Protocol = "tcp", *, to_host: bool = False
    ) -> tuple[str, Probed]:
        """Return what explain says, and what became of a packet. source "": the host."""

        def ask(method: str, request: object, wanted: type[T]) -> T:
            return admin.call("pynet", self.serving.state_dir, method, request, wanted)

        explained = ask("Packets.Explain", ExplainRequest(source, to, to_host, protocol, port), ExplainAnswer)
        networks = ask("Networks.List", {}, NetworksAnswer).Networks
        start = ip_address(source) if source else None
        names = EngineView({}, {})
        probed = probe(start, ip_address(to), protocol, port, explained.Verdict, networks, names)
        return explained.Verdict, probed


def seen(probed: Probed) -> list[tuple[str, str]]:
    return [(each.Direction, each.Link) for each in probed.Seen]


@contextmanager
def joined(engine: Engine, endpoint: str, network: str, address: str, gateway: str) -> Iterator[None]:
    sandbox = Sandbox()
    try:
        engine.create_endpoint(endpoint, f"{address}/24", network=network)
        path = f"/proc/{os.getpid()}/fd/{sandbox.descriptor}"
        name = engine.ok("Join", **ids(endpoint, network), SandboxKey=path, Options={})["InterfaceName"]["SrcName"]
        sandbox.take(name)
        sandbox.run("ip", "link", "set", name, "name", "eth0", "up")
        sandbox.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
        sandbox.run("ip", "route", "add", "default", "via", gateway)
        yield
    finally:
        sandbox.close()


@pytest.fixture(params=["iptables", "nftables"])
def place(netns: None, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    serving = Serving("pynet", tmp_path, "--firewall", request.param, "--reconcile-every", "3600")
    outside = Sandbox()
    try:
        serving.start()
        engine = Engine(lambda path, body: serving.ask(path[1:], json.loads(body)))
        # A way out of the host, and what is behind it.
        command("ip", "link", "add", "out0", "type", "veth", "peer", "out1")
        outside.take("out1")
        outside.run("ip", "link", "set", "out1", "up")
        command("ip", "addr", "add", "192.0.2.1/24", "dev", "out0")
        command("ip", "link", "set", "out0", "up")
        command("ip", "neigh", "add", "192.0.2.9", "lladdr", "02:00:00:00:00:09", "dev", "out0")
        assert engine.create_network()[0] == 200
        assert engine.create_network(OTHER_NETWORK, subnet="10.8.0")[0] == 200
        with (
            joined(engine, ENDPOINT_ID, NETWORK_ID, WEB, "10.9.0.1"),
            joined(engine, OTHER_ENDPOINT_ID, NETWORK_ID, CLIENT, "10.9.0.1"),
            joined(engine, STRANGERS, OTHER_NETWORK, STRANGER, "10.8.0.1"),
        ):
            assert engine.publish(port(80, 8080), port(53, 8053, proto=17))[0] == 200
            yield Place(serving)
    finally:
        serving.kill()
        outside.close()


def test_what_is_sent_goes_where_it_is_said_to_go_and_is_seen(place: Place) -> None:
    """One place for all: it takes longer to make than to be looked at."""
    reached = f"{ENDPOINT_ID[:12]} on {NETWORK_ID[:12]}"
    # Within a network. A bridge shows itself what it hands up or filters, and nothing else.
    for protocol, number in (("tcp", 80), ("udp", 53), ("icmp", 0)):
        verdict, probed = place.probed(CLIENT, WEB, number, protocol)
        assert (verdict, probed.Agrees, probed.Reached) == ("passes", True, reached), probed
        assert [each for each in seen(probed) if each[1] != BRIDGE] == [("in", LINKS[CLIENT]), ("out", LINKS[WEB])]
    _, probed = place.probed("", WEB, 80)
    assert seen(probed) == [("out", BRIDGE), ("out", LINKS[WEB])], probed

    # Translated, to a published port and on the way out.
    start = [("in", LINKS[STRANGER]), ("in", OTHER_BRIDGE)]
    for protocol, number in (("tcp", 8080), ("udp", 8053)):
        verdict, probed = place.probed(STRANGER, "192.0.2.1", number, protocol, to_host=True)
        assert (verdict, probed.Agrees, probed.Reached) == ("passes", True, reached), probed
        assert seen(probed) == [*start, ("out", BRIDGE), ("out", LINKS[WEB])]
    _, probed = place.probed(STRANGER, "192.0.2.9", 443)
    assert (seen(probed), probed.Agrees) == ([*start, ("out", "out0")], True)
    assert probed.Reached == "another link of the host (out0)"

    # Dropped, and left open.
    verdict, probed = place.probed(STRANGER, WEB, 81)
    assert (verdict, probed.Agrees, probed.Reached, seen(probed)) == ("dropped", True, "", start), probed
    assert told(probed).endswith("it went no further, as explained")
    verdict, probed = place.probed(STRANGER, "192.0.2.1", 22, to_host=True)
    assert (verdict, probed.Agrees) == ("for others to decide", None)

    # Others that drop it: of them explain knows nothing, and for them there is a probe.
    hook = "{ type filter hook forward priority -5; }"
    rule = "add rule inet mine forward ip daddr 10.9.0.2 udp dport 53 drop"
    command("nft", f"add table inet mine; add chain inet mine forward {hook}; {rule}")
    verdict, probed = place.probed(STRANGER, "192.0.2.1", 8053, "udp", to_host=True)
    assert (verdict, probed.Agrees, probed.Reached) == ("passes", False, ""), probed
    assert told(probed).endswith("it went no further, which is NOT as explained")
    command("nft", "add table inet mine; delete table inet mine")

    # What the sender itself cannot send, and who is not here.
    hook = "{ type filter hook output priority 0; policy drop; }"
    command("nft", f"add table inet mine; add chain inet mine output {hook}")
    verdict, probed = place.probed("", WEB, 53, "udp")
    assert (probed.Unsent, probed.Agrees, seen(probed)) == ("Operation not permitted (EPERM)", False, [])
    command("nft", "delete table inet mine")
    with pytest.raises(BadRequest, match="cannot send a packet by SCTP"):
        place.probed(CLIENT, WEB, 80, "sctp")
    with pytest.raises(BadRequest, match="no running container on this host has it"):
        place.probed("192.0.2.9", WEB, 80)
