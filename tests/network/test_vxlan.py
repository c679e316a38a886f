"""An overlay's device, entries and guard in a real kernel, with a peer that was made by hand."""

import re
import socket
from contextlib import closing, contextmanager
from dataclasses import replace
from ipaddress import ip_address

import pytest
from scapy.layers import vxlan
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from netplugin.kernel.firewall.nfnetlink import Nfnetlink
from netplugin.kernel.overlay.fdb import VxlanFdb
from netplugin.kernel.overlay.guard import TABLE, OverlayGuards
from netplugin.kernel.overlay.neighbours import Neighbours
from netplugin.kernel.overlay.vxlan import VxlanDevices
from netplugin.machine import Way
from netplugin.overlay.plan import EVERYBODY
from netplugin.resources import FdbEntry, Neighbour, OverlayGuard, OverlayMember, Vxlan
from pluginkit.errors import Conflict, NotFound
from tests.network.sandboxes import BRIDGE, GATEWAY4, Sandbox, command

VNI, PORT, DEVICE = 77, 14789, "pnx1a2b3c4d"
GATEWAY_MAC = "02:00:00:00:00:01"
UNDERLAYS = {"ipv4": ("10.90.0.11", "10.90.0.12", "10.90.0.13"), "ipv6": ("fd90::11", "fd90::12", "fd90::13")}
OWN, PEER, STRANGER = UNDERLAYS["ipv4"]
FAR4, FAR6 = "10.9.0.50", "fd09::50"
VXLAN = Vxlan(DEVICE, BRIDGE, VNI, PORT, OWN, 1450, True, False, "pynet network of a test")
GUARD = OverlayGuard(DEVICE, GATEWAY_MAC, VNI, PORT)
MEMBER = OverlayMember(DEVICE, VNI, PORT, PEER)
ENTRY = FdbEntry(DEVICE, EVERYBODY, PEER)


class Elsewhere(Sandbox):
    """Another host, on a wire to the test's namespace, where addresses of the network are on the device itself."""

    def __init__(self):
        super().__init__()
        command("ip", "link", "add", "wire0", "type", "veth", "peer", "name", "wire1")
        self.take("wire1")
        for own, run, link in ((OWN, command, "wire0"), (PEER, self.run, "wire1")):
            own6 = own.replace("10.90.0.", "fd90::")
            run("ip", "addr", "add", f"{own}/24", "dev", link)
            run("ip", "addr", "add", f"{own6}/64", "dev", link, "nodad")
            run("ip", "link", "set", link, "up")
        for stranger, bits in ((STRANGER, 24), (UNDERLAYS["ipv6"][2], 64)):
            self.run("ip", "addr", "add", f"{stranger}/{bits}", "dev", "wire1", *["nodad"] * (bits == 64))

    @contextmanager
    def device(self, local, remote, mac="02:00:00:00:00:50"):
        """Inside the block the host has a device of the VNI with FAR4 and FAR6."""
        vxlan = ["type", "vxlan", "id", str(VNI), "dstport", str(PORT), "local", local, "remote", remote]
        self.run("ip", "link", "add", "far", "address", mac, "mtu", "1430", *vxlan)
        self.run("ip", "addr", "add", f"{FAR4}/24", "dev", "far")
        self.run("ip", "addr", "add", f"{FAR6}/64", "dev", "far", "nodad")
        self.run("ip", "link", "set", "far", "up")
        try:
            yield
        finally:
            self.run("ip", "link", "del", "far")


class Overlay:
    """The three kernel modules."""

    def __init__(self, netlink, nfnetlink):
        self.guards, self.devices, self.fdb = OverlayGuards(nfnetlink), VxlanDevices(netlink), VxlanFdb(netlink)

    def ensure(self, own=OWN, *peers):
        peers = peers or (PEER,)
        self.guards.ensure(GUARD)
        self.devices.ensure(replace(VXLAN, local=own))
        for peer in peers:
            self.guards.ensure(replace(MEMBER, vtep=peer))
            self.fdb.ensure(replace(ENTRY, vtep=peer))

    def remove(self):
        self.fdb.remove(ENTRY)
        self.guards.remove(MEMBER)
        self.devices.remove(VXLAN)
        self.guards.remove(GUARD)

    def owned(self):
        return [have.key for kernel in (self.guards, self.devices, self.fdb) for have in kernel.owned()]


@pytest.fixture
def elsewhere(netlink):
    with closing(Elsewhere()) as elsewhere:
        yield elsewhere


@pytest.fixture
def overlay(netlink, containers, elsewhere):
    with closing(Nfnetlink()) as nfnetlink:
        yield Overlay(netlink, nfnetlink)


def kernel_view():
    """Return device, entries and rules as their programs print them, without what changes by itself."""
    # Ports are numbered as they come, and the device has a MAC address of its own each time it is made.
    link = re.sub(
        r"^\d+: |link/ether \S+|port_(id|no) \S+|designated_port \d+|timer +\S+", "", ip("-d", "link", "show")
    )
    entries = [line for line in command("bridge", "fdb", "show", "dev", DEVICE).splitlines() if " dst " in line]
    rules = [command("nft", "-s", "list", "table", family, TABLE) for family in ("inet", "bridge")]
    return link[link.index(DEVICE) :], entries, rules


def ip(*words):
    return command("ip", *words)


def arrived(heard):
    """Return the frames that came, until none comes any more."""
    frames = []
    try:
        while True:
            frames.append(heard.recv(100))
    except TimeoutError:
        return frames


def pings(sandbox, address, *options):
    words = ("ping", "-c1", "-W2", *options, address)
    try:
        sandbox.run(*words)
    except Exception:  # noqa: BLE001 - ping's own way to say that nobody answered
        return False
    return True


@pytest.mark.parametrize("family", UNDERLAYS)
def test_packets_reach_the_peer_and_come_back(overlay, containers, elsewhere, family):
    own, peer, _ = UNDERLAYS[family]
    overlay.ensure(own, peer)
    with elsewhere.device(peer, own):
        for address in (FAR4, FAR6):
            assert pings(containers[0], address), address
            assert pings(containers[0], address, "-s", "1300", "-M", "do"), address
        assert pings(elsewhere, containers[1].address4)
        # Now the device knows where the address is.
        assert f"02:00:00:00:00:50 dst {peer} self" in command("bridge", "fdb", "show", "dev", DEVICE)


def test_packets_of_a_stranger_are_dropped(overlay, containers, elsewhere):
    overlay.ensure()
    with elsewhere.device(STRANGER, OWN):
        assert not pings(elsewhere, containers[0].address4)
    assert "packets 0" not in command("nft", "list", "counter", "inet", TABLE, "strangers")
    overlay.ensure(OWN, PEER, STRANGER)
    with elsewhere.device(STRANGER, OWN):
        assert pings(elsewhere, containers[0].address4)


@pytest.mark.parametrize(
    ("source", "vni", "flags", "comes"),
    [(PEER, VNI, 0x08, True), (STRANGER, VNI, 0x08, False), (PEER, VNI + 1, 0x08, False), (PEER, VNI, 0, False)],
    ids=["of a member", "of a stranger", "of an unknown VNI", "without a VNI"],
)
def test_only_packets_of_members_with_a_known_vni_come_in(overlay, containers, elsewhere, source, vni, flags, comes):
    overlay.ensure()
    ann = containers[0]
    with closing(ann.socket(socket.AF_INET, socket.SOCK_DGRAM)) as heard:
        heard.bind(("", 9000))
        heard.settimeout(2 if comes else 0.5)
        inner = Ether(dst=ann.mac, src="02:00:00:00:00:50") / IP(src=FAR4, dst=ann.address4) / UDP(dport=9000) / b"in"
        packet = vxlan.VXLAN(flags=flags, vni=vni) / inner
        with closing(elsewhere.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))) as sender:
            sender.bind((source, 0))
            sender.sendto(bytes(packet), (OWN, PORT))
        assert arrived(heard) == ([b"in"] if comes else [])


@pytest.mark.parametrize("multicast", [True, False])
def test_what_is_for_many_passes_between_hosts_or_not(overlay, containers, elsewhere, multicast):
    """Both ways; that addresses are found by ARP and neighbour discovery does not depend on it."""
    overlay.ensure()
    overlay.guards.ensure(replace(GUARD, multicast=multicast))
    ann, bob = containers[:2]
    with elsewhere.device(PEER, OWN):
        for listener, speaker, link in ((elsewhere, ann, "eth0"), (ann, elsewhere, "far")):
            for address in ("239.1.2.3", "10.9.0.255"):
                with (
                    closing(listener.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))) as heard,
                    closing(speaker.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))) as sender,
                ):
                    heard.bind(("", 9000))
                    heard.settimeout(2 if multicast else 0.5)
                    there = FAR4 if listener is elsewhere else ann.address4
                    group = socket.inet_aton("239.1.2.3") + socket.inet_aton(there)
                    heard.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
                    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
                    sender.sendto(b"all", (address, 9000))
                    assert arrived(heard) == ([b"all"] if multicast else []), (listener, address)
        for address in (FAR4, FAR6):
            assert pings(bob, address), address
        assert ("quiet" in overlay_elements()) is not multicast


def overlay_elements():
    """Return the names of the sets that have elements."""
    rules = command("nft", "list", "table", "bridge", TABLE)
    return re.findall(r"set (\w+) {[^}]*elements", rules)


def test_other_networks_on_the_same_port_are_none_of_the_guards_business(overlay, elsewhere):
    overlay.ensure()
    ip("link", "add", "theirs", "type", "vxlan", "id", "78", "dstport", str(PORT), "local", OWN, "remote", STRANGER)
    ip("addr", "add", "10.77.0.1/24", "dev", "theirs")
    ip("link", "set", "theirs", "up")
    vxlan = ["type", "vxlan", "id", "78", "dstport", str(PORT), "local", STRANGER, "remote", OWN]
    elsewhere.run("ip", "link", "add", "far", *vxlan)
    elsewhere.run("ip", "addr", "add", "10.77.0.2/24", "dev", "far")
    elsewhere.run("ip", "link", "set", "far", "up")
    assert pings(elsewhere, "10.77.0.1")


def test_frames_that_claim_to_come_from_the_bridge_are_dropped(overlay, containers, elsewhere):
    overlay.ensure()
    with elsewhere.device(PEER, OWN, mac=GATEWAY_MAC):
        assert not pings(elsewhere, containers[0].address4)


def test_who_asks_for_the_gateway_is_not_heard_elsewhere(overlay, containers, elsewhere):
    overlay.ensure()
    with elsewhere.device(PEER, OWN):
        with closing(elsewhere.call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0608))) as heard:
            heard.bind(("far", 0x0806))
            heard.settimeout(3)
            assert pings(containers[0], GATEWAY4)
            # The first question that does arrive is the one for an address that nobody here has.
            assert not pings(containers[0], "10.9.0.99")
            frame = heard.recv(100)
    assert socket.inet_ntoa(frame[38:42]) == "10.9.0.99"


def test_isolated_ports_do_not_reach_the_peer_and_the_gateway_is_reached(overlay, netlink, containers, elsewhere):
    overlay.ensure()
    overlay.devices.ensure(replace(VXLAN, isolated=True))
    command("bridge", "link", "set", "dev", containers[0].link, "isolated", "on")
    with elsewhere.device(PEER, OWN):
        assert not pings(containers[0], FAR4)
        assert pings(containers[1], FAR4)
        assert pings(containers[0], GATEWAY4)


def test_to_ensure_twice_is_to_ensure_once_and_removal_leaves_nothing(overlay):
    before = command("nft", "list", "ruleset"), ip("-o", "link").count("\n")
    overlay.ensure()
    once = kernel_view()
    overlay.ensure()
    assert kernel_view() == once
    assert overlay.owned() == [GUARD.key, MEMBER.key, VXLAN.key, ENTRY.key]
    overlay.remove()
    overlay.remove()
    assert (command("nft", "list", "ruleset"), ip("-o", "link").count("\n")) == before
    assert overlay.owned() == []


TUNNEL = f"type vxlan id 78 dstport {PORT} local {OWN}"
DRIFTS = {
    "device deleted": f"ip link del {DEVICE}",
    "device down": f"ip link set {DEVICE} down",
    "out of the bridge": f"ip link set {DEVICE} nomaster",
    "another MTU": f"ip link set {DEVICE} mtu 1300",
    "another VNI": f"ip link del {DEVICE}; ip link add {DEVICE} {TUNNEL}",
    "learning off": f"ip link set {DEVICE} type vxlan nolearning",
    "suppression off": f"bridge link set dev {DEVICE} neigh_suppress off",
    "isolated": f"bridge link set dev {DEVICE} isolated on",
    "entry deleted": f"bridge fdb del {EVERYBODY} dev {DEVICE} dst {PEER}",
    "guard's table deleted": f"nft delete table inet {TABLE}",
    "guard's rules flushed": f"nft flush table inet {TABLE}",
    "guard's elements deleted": f"nft flush set inet {TABLE} networks; nft flush set bridge {TABLE} own",
}


def test_a_table_that_was_deleted_is_made_again_by_whoever_needs_it(overlay):
    overlay.ensure()
    command("nft", "delete", "table", "inet", TABLE)
    overlay.guards.ensure(replace(GUARD, link="pnx00000000", vni=78))
    assert "14789 . 0x4e" in command("nft", "list", "set", "inet", TABLE, "networks")


@pytest.mark.parametrize("drift", DRIFTS.values(), ids=DRIFTS)
def test_drift_is_put_right(overlay, drift):
    overlay.ensure()
    right = kernel_view()
    command("sh", "-ec", drift)
    overlay.owned()
    overlay.ensure()
    assert kernel_view() == right


def test_entries_of_others_on_our_device_are_listed_and_removed(overlay):
    overlay.ensure()
    command("bridge", "fdb", "append", EVERYBODY, "dev", DEVICE, "dst", STRANGER)
    command("bridge", "fdb", "replace", "02:00:00:00:00:50", "dev", DEVICE, "dst", STRANGER, "self", "permanent")
    strange = [have for have in overlay.fdb.owned() if have.vtep == STRANGER]
    assert [have.mac for have in sorted(strange, key=lambda have: have.mac)] == [EVERYBODY, "02:00:00:00:00:50"]
    for have in strange:
        overlay.fdb.remove(have)
    assert list(overlay.fdb.owned()) == [ENTRY]


def test_what_the_cluster_knows_is_answered_here_and_sent_to_its_host_alone(overlay, netlink, containers, elsewhere):
    overlay.guards.ensure(GUARD)
    overlay.guards.ensure(MEMBER)
    overlay.devices.ensure(replace(VXLAN, learning=False))
    place = FdbEntry(DEVICE, "02:00:00:00:00:50", PEER)
    neighbours = Neighbours(netlink)
    known = [Neighbour(BRIDGE, ip_address(address), place.mac) for address in (FAR4, FAR6)]
    for _ in range(2):
        overlay.fdb.ensure(place)
        for one in known:
            neighbours.ensure(one)
    with elsewhere.device(PEER, OWN):
        with closing(elsewhere.call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0608))) as heard:
            heard.bind(("far", 0x0806))
            heard.settimeout(0.5)
            for address in (FAR4, FAR6):
                assert pings(containers[0], address), address
            # Not even the first question was heard there; what is heard is what was asked there itself.
            asked = [frame[6:12].hex(":") for frame in arrived(heard) if frame[20:22] == b"\0\1"]
            assert set(asked) <= {place.mac}
    assert (list(overlay.fdb.owned()), sorted(neighbours.owned(), key=str)) == ([place], known)
    overlay.fdb.remove(place)
    for one in known:
        neighbours.remove(one)
        neighbours.remove(one)
    assert (list(overlay.fdb.owned()), list(neighbours.owned())) == ([], [])
    assert place.mac not in command("bridge", "fdb", "show")


def test_members_come_and_go(overlay):
    for vtep in (PEER, STRANGER, "fd90::13"):
        overlay.guards.ensure(replace(MEMBER, vtep=vtep))
    assert sorted(have.vtep for have in overlay.guards.owned()) == [PEER, STRANGER, "fd90::13"]
    overlay.guards.remove(replace(MEMBER, vtep=STRANGER))
    overlay.guards.ensure(replace(MEMBER, vni=78))
    assert f"{{ {PEER} . 14789 . 0x4e comment" in command("nft", "list", "set", "inet", TABLE, "members4")


def test_a_guard_of_another_device_stays(overlay):
    other = replace(GUARD, link="pnx00000000", vni=78)
    overlay.guards.ensure(GUARD)
    overlay.guards.ensure(other)
    overlay.guards.remove(GUARD)
    assert overlay.owned() == [other.key]


def test_a_vni_that_is_taken_is_a_conflict(overlay):
    ip("link", "add", "theirs", "type", "vxlan", "id", str(VNI), "dstport", str(PORT), "local", OWN)
    with pytest.raises(Conflict, match=f"VNI {VNI} on UDP port {PORT} is another network's on this host"):
        overlay.devices.ensure(VXLAN)
    assert DEVICE not in ip("link")


def test_a_port_that_a_program_has_is_a_conflict(overlay):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as program:
        program.bind(("", PORT))
        with pytest.raises(Conflict, match=f"cannot open UDP port {PORT} .* a program of this host has it"):
            overlay.devices.ensure(VXLAN)


def test_a_link_of_somebody_else_is_left_alone(overlay):
    ip("link", "add", DEVICE, "type", "bridge")
    with pytest.raises(Conflict, match="a link of that name exists"):
        overlay.devices.ensure(VXLAN)
    assert overlay.owned() == []


def test_without_bridge_or_device_it_says_so(overlay):
    with pytest.raises(NotFound, match="the bridge nobodys is gone"):
        overlay.devices.ensure(replace(VXLAN, bridge="nobodys"))
    with pytest.raises(NotFound, match=f"{DEVICE} is gone"):
        overlay.fdb.ensure(ENTRY)


@pytest.mark.parametrize("family", UNDERLAYS)
def test_the_way_to_a_peer(netlink, elsewhere, family):
    own, peer, stranger = map(ip_address, UNDERLAYS[family])
    far, subnet = {"ipv4": ("10.99.0.1", "10.99.0.0/24"), "ipv6": ("fd99::1", "fd99::/64")}[family]
    far = ip_address(far)
    ip("link", "set", "wire0", "mtu", "1480")
    assert netlink.way_to(own) == Way(own, 65536, True)
    assert netlink.way_to(peer).mtu == 1480
    assert netlink.way_to(far) is None
    ip("route", "add", subnet, "via", str(stranger), "mtu", "1380")
    assert netlink.way_to(far) == Way(own, 1380, False)
    ip("route", "del", subnet)
    ip("route", "add", "unreachable", subnet)
    assert netlink.way_to(far) is None
