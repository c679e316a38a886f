"""Whether overlays' packets get to a peer whole: on a wire that works, and on wires that are broken in each way."""

import errno
import os
import selectors
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from netplugin.kernel.netlink import Netlink
from netplugin.kernel.overlay.prober import Prober, let_software_compute_checksums
from netplugin.kernel.overlay.vxlan import VxlanDevices
from netplugin.kinds import NETWORKS, REMOTE_HOSTS, open_store
from netplugin.overlay.keeper import WayKeeper, underlays
from netplugin.overlay.ways import Message, Underlay, Way, address_of, pack, unpack, verdict
from netplugin.records import Overlay, RemoteHost
from netplugin.resources import Vxlan
from tests.network.samples import NETWORK_ID, network
from tests.network.sandboxes import BRIDGE, Sandbox, command, enter

OWN, PEER, PORT = "10.90.0.11", "10.90.0.12", 14789
MTU = 1450
HERE, THERE = Underlay(PORT, OWN, frozenset({PEER}), MTU), Underlay(PORT, PEER, frozenset({OWN}), MTU)


class Peer(Sandbox):
    """Another host, with a prober of its own."""

    def __init__(self):
        super().__init__()
        # A netlink socket is closed by the thread that has opened it.
        self._thread = ThreadPoolExecutor(1, initializer=lambda: enter(self.descriptor))
        self.netlink = Netlink()
        self.prober = Prober(self.netlink)

    def serve(self, *underlays):
        self._thread.submit(self.prober.serve, underlays).result()

    def probe(self):
        return self._thread.submit(self.prober.probe).result()

    def close(self):
        for end in (self.prober.close, self.netlink.close):
            self._thread.submit(end).result()
        self._thread.shutdown()
        super().close()


def relay(links, stop, change):
    """Frames go from one link to the other as `change` makes them, without checksums that a card was to complete."""
    with selectors.DefaultSelector() as selector:
        opened = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) for _ in links]
        for each, link in zip(opened, links, strict=True):
            each.bind((link, 3))
            selector.register(each, selectors.EVENT_READ)
        selector.register(stop, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj == stop:
                    for each in opened:
                        each.close()
                    return
                frame, where = key.fileobj.recvfrom(65535)
                if where[2] != socket.PACKET_OUTGOING:
                    other = opened[1 - opened.index(key.fileobj)]
                    with suppress(OSError):
                        other.send(change(frame))


@contextmanager
def wired(peer, change=None):
    """Both hosts are on one wire; with `change`, frames pass a card that makes of each what that says."""
    command("ip", "link", "add", "wire0", "type", "veth", "peer", "name", "wire1")
    ends = ("wire0", "wire1")
    if change is not None:
        command("ip", "link", "add", "wire2", "type", "veth", "peer", "name", "wire3")
        ends = ("wire0", "wire3")
    peer.take(ends[1])
    for run, link, address in ((command, ends[0], OWN), (peer.run, ends[1], PEER)):
        run("ip", "addr", "add", f"{address}/24", "dev", link)
        run("ip", "link", "set", link, "up")
    if change is None:
        yield
        return
    with closing(Sandbox()) as card:
        for link in ("wire1", "wire2"):
            card.take(link)
            card.run("ip", "link", "set", link, "up")
        end, told = os.pipe()
        running = threading.Thread(target=lambda: card.call(lambda: relay(("wire1", "wire2"), end, change)))
        running.start()
        try:
            yield
        finally:
            os.write(told, b"x")
            running.join()
            os.close(end)
            os.close(told)


@pytest.fixture
def peer(netlink):
    with closing(Peer()) as peer:
        yield peer


@pytest.fixture
def prober(netlink):
    with closing(Prober(netlink)) as prober:
        yield prober


def outer_alone(frame):
    """A card that completes the checksum of the UDP datagram, and not that of what is in the tunnel."""
    packet = Ether(frame)
    if UDP not in packet or packet[UDP].dport != PORT:
        return frame
    inner = bytes(packet[UDP].payload)
    packet[UDP].remove_payload()
    del packet[UDP].chksum
    return bytes(packet / Raw(inner))


WIRES = {
    "whole": (None, "good"),
    "by a card that completes the outer checksum alone": (outer_alone, "checksums"),
}


@pytest.mark.parametrize(("change", "state"), WIRES.values(), ids=WIRES)
def test_what_is_found_out(peer, prober, change, state):
    with wired(peer, change):
        peer.serve(THERE)
        prober.serve([HERE])
        assert prober.probe() == [Way(PEER, PORT, state)]
        assert peer.probe() == [Way(OWN, PORT, state)]


def test_a_port_that_is_blocked_and_then_is_not(peer, prober):
    with wired(peer):
        peer.serve(THERE)
        prober.serve([HERE])
        rules = f"table inet f {{ chain c {{ type filter hook input priority 0; udp dport {PORT} drop; }}; }}"
        peer.run("nft", rules)
        assert prober.probe() == [Way(PEER, PORT, "silent")]
        peer.run("nft", "delete table inet f")
        # What the host's firewall does to the inner packets is its own business, for they are none of its networks'.
        peer.run(
            "nft", f"table inet f {{ chain c {{ type filter hook input priority 0; iifname {THERE.link} drop; }}; }}"
        )
        assert prober.probe() == [Way(PEER, PORT, "good")]


def test_a_hop_that_takes_small_packets_only(peer, prober):
    with wired(peer):
        peer.serve(THERE)
        prober.serve([HERE])
        rules = f"chain c {{ type filter hook input priority 0; udp dport {PORT} meta length > 1499 drop; }}"
        peer.run("nft", f"table inet f {{ {rules}; }}")
        assert prober.probe() == [Way(PEER, PORT, "narrow")]
        assert peer.probe() == [Way(OWN, PORT, "good")]


def test_who_is_no_peer_is_not_answered(peer, prober):
    with wired(peer):
        peer.serve(Underlay(PORT, PEER, frozenset({"10.90.0.99"}), MTU))
        prober.serve([HERE])
        assert prober.probe() == [Way(PEER, PORT, "silent")]
        peer.serve(THERE)
        assert prober.probe() == [Way(PEER, PORT, "good")]


def test_devices_come_and_go_with_what_is_served(netlink, prober):
    command("ip", "link", "add", "wire0", "type", "bridge")
    command("ip", "addr", "add", f"{OWN}/24", "dev", "wire0")
    prober.serve([HERE])
    prober.serve([HERE])
    shown = command("bridge", "fdb", "show", "dev", HERE.link).splitlines()
    assert [line.split(" self")[0] for line in shown] == [f"{address_of(PEER)} dst {PEER}"]
    # Somebody else's port is told in the log, and nothing is left of it.
    command("ip", "link", "del", HERE.link)
    prober.serve([HERE])
    assert HERE.link in command("ip", "link")
    prober.serve([])
    assert HERE.link not in command("ip", "link")
    assert prober.probe() == []


@pytest.fixture
def store(state_dir):
    """The records of a host with one overlay, whose peer is the other host."""
    with closing(open_store(state_dir)) as store:
        overlay = Overlay(7, PORT, OWN, (PEER,))
        store.intend(NETWORKS, NETWORK_ID, "", replace(network(), overlay=overlay, mtu=MTU))
        store.commit(NETWORKS, NETWORK_ID)
        yield store


def is_reached(address):
    """Whether the other host hears what it is sent: it has no such port, and says so."""
    with closing(socket.socket()) as client:
        client.settimeout(2)
        return client.connect_ex((address, 9)) == errno.ECONNREFUSED


def tunnel(run, own, other, address):
    words = ("type", "vxlan", "id", "7", "dstport", str(PORT), "local", own, "remote", other)
    run("ip", "link", "add", "pnx1a2b3c4d", *words)
    run("ip", "addr", "add", f"{address}/24", "dev", "pnx1a2b3c4d")
    run("ip", "link", "set", "pnx1a2b3c4d", "up")


def test_the_remedy_heals_networks_that_are_there_and_those_that_come(netlink, peer, prober, store, caplog):
    vxlans = VxlanDevices(netlink)
    keeper = WayKeeper(store, prober, vxlans.compute_checksums_in_software)
    with wired(peer, outer_alone):
        peer.serve(THERE)
        tunnel(command, OWN, PEER, "10.9.0.1")
        tunnel(peer.run, PEER, OWN, "10.9.0.2")
        # What comes back is not what is tried here.
        peer.call(lambda: let_software_compute_checksums("pnx1a2b3c4d"))
        keeper.look()
        assert (keeper.ways, is_reached("10.9.0.2")) == ((), False)
        time.sleep(2)
        keeper.look()
        assert (keeper.ways, keeper.in_software) == ((Way(PEER, PORT, "checksums"),), True)
        assert "checksums of overlays are computed in software from now on" in caplog.text
        assert is_reached("10.9.0.2")
    command("ip", "link", "del", "pnx1a2b3c4d")
    command("ip", "link", "add", BRIDGE, "type", "bridge")
    device = Vxlan("pnx1a2b3c4d", BRIDGE, 7, PORT, OWN, 1450, True, False, "pynet network of a test")
    vxlans.ensure(device)
    assert "tx-checksum" not in features(device.name)
    vxlans.remove(device)
    VxlanDevices(netlink).ensure(device)
    assert "tx-checksum" in features(device.name)


def test_underlays_are_those_of_the_records(store):
    assert underlays(store) == {HERE}
    store.intend(REMOTE_HOSTS, f"{NETWORK_ID}/x", NETWORK_ID, RemoteHost("10.90.0.13"))
    store.commit(REMOTE_HOSTS, f"{NETWORK_ID}/x")
    six = replace(network(), id="f" * 64, overlay=Overlay(8, PORT, "fd90::11", ()), mtu=1430)
    store.intend(NETWORKS, six.id, "", six)
    store.commit(NETWORKS, six.id)
    others = Underlay(PORT, "fd90::11", frozenset(), 1430)
    assert underlays(store) == {Underlay(PORT, OWN, frozenset({PEER, "10.90.0.13"}), MTU), others}
    larger = replace(six, id="e" * 64, mtu=8930)
    store.intend(NETWORKS, larger.id, "", larger)
    store.commit(NETWORKS, larger.id)
    assert replace(others, mtu=8930) in underlays(store)
    assert (HERE.link, others.link) == ("pnt14789-4", "pnt14789-6")


def features(link):
    from pyroute2 import Ethtool

    ethtool = Ethtool()
    try:
        known = ethtool.get_features(link).features
    finally:
        ethtool.close()
    return " ".join(name for name, one in known.items() if one.enable)


@given(st.binary(max_size=200))
def test_frames_of_any_kind_are_no_messages(frame):
    assert unpack(frame) is None or len(frame) >= 100


@given(st.binary(min_size=8, max_size=8), st.sampled_from([OWN, "fd90::11"]), st.booleans(), st.booleans())
def test_what_is_packed_is_unpacked_and_damage_is_seen(nonce, sender, is_answer, whole):
    message = Message(is_answer, nonce, sender, whole)
    large = pack(message, PEER, "large", MTU)
    assert (unpack(large), len(large) - 10 - 14) == ((message, True), MTU)
    assert unpack(large[:-1]) is None or unpack(large[:-1]) == (message, False)
    frame = pack(message, PEER, "ready")
    assert unpack(frame) == (message, True)
    damaged = frame[:-1] + bytes((frame[-1] ^ 1,))
    assert unpack(damaged) == (message, False) or unpack(damaged)[0].sender != sender
    assert (
        unpack(pack(message, PEER, "device")[:10].replace(b"\1", b"\0", 1) + pack(message, PEER, "device")[10:])[1]
        is False
    )


def test_verdicts():
    whole = ({"device", "ready", "large"}, {"device", "large"}, {"device", "ready"}, {"ready", "large"}, {"ready"}, ())
    assert [verdict(one) for one in whole] == ["good", "good", "narrow", "checksums", "checksums", "silent"]
