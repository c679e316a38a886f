"""Two hosts with an encrypted overlay: who reaches whom, what is on the wire, what comes back when it was broken."""

import os
import signal
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from netplugin.kernel.overlay.guard import TABLE
from netplugin.kernel.overlay.tunnel import Tunnels, lack
from netplugin.overlay.secret import HostKey
from netplugin.overlay.tunnel import LINK, PORT, Tunnel, TunnelPeer, address_inside
from pluginkit.errors import Conflict, NotFound, StateError, Unavailable
from tests.network.sandboxes import Sandbox, command
from tests.network.tunnel_hosts import MTU, SECRET, Host, dropped, on_the_wire, ports, wait_for


@pytest.fixture
def wire(netns):
    """The test's namespace is the wire between the hosts, and somebody on it."""
    command("ip", "link", "add", "wire0", "type", "bridge")
    command("ip", "addr", "add", "10.90.0.1/24", "dev", "wire0")
    command("ip", "addr", "add", "fd90::1/64", "dev", "wire0", "nodad")
    command("ip", "link", "set", "wire0", "up")


@pytest.fixture
def hosts(wire, tmp_path):
    with closing(Host(tmp_path, 2)) as one, closing(Host(tmp_path, 3)) as other:
        yield one, other


@pytest.fixture
def blue(hosts):
    """Both are on the network."""
    one, other = hosts
    one.ensure(one.plan(other))
    other.ensure(other.plan(one))
    return hosts


def test_what_goes_over_the_wire_is_wireguards_alone(blue):
    one, other = blue
    with on_the_wire() as frames:
        assert one.pings("10.77.0.3", "-p", SECRET.hex()[:32])
        assert one.pings("10.77.0.3", "-s", str(MTU - 28), "-M", "do", "-p", SECRET.hex()[:32])
        assert not one.pings("10.77.0.3", "-s", str(MTU - 27), "-M", "do")
        assert other.pings("10.77.0.2")
    assert ports(frames) == {PORT}
    assert not [frame for frame in frames if SECRET[:8] in bytes(frame)]
    assert max(len(frame) for frame in frames) == 1514


def test_the_underlay_may_be_of_ipv6(hosts):
    one, other = hosts
    for each, far in ((one, other), (other, one)):
        each.ensure(each.plan(far, mtu=1350, version=6))
    with on_the_wire() as frames:
        assert one.pings("10.77.0.3", "-s", str(1350 - 28), "-M", "do")
        assert not one.pings("10.77.0.3", "-s", str(1350 - 27), "-M", "do")
    assert ports(frames) == {PORT}
    assert max(len(frame) for frame in frames) == 1514


def test_what_comes_in_the_clear_is_dropped(blue):
    """From a stranger, from the peer itself, and from somebody who bears its address inside of the tunnel."""
    one, other = blue
    assert one.pings("10.77.0.3")
    inside, far = address_inside("blue", one.id), address_inside("blue", other.id)
    inner = Ether(dst="02:00:00:00:4d:02", src="02:00:00:00:00:50")
    inner = inner / IP(src="10.77.0.3", dst="10.77.0.2") / UDP(sport=9000, dport=9000) / SECRET
    packet = bytes(VXLAN(flags=0x08, vni=77) / inner)

    def heard_after(send):
        with closing(one.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))) as heard:
            heard.bind(("10.77.0.2", 9000))
            heard.settimeout(1)
            send()
            try:
                return heard.recv(100) == SECRET
            except TimeoutError:
                return False

    def by_udp(sandbox, family, source, target):
        def send():
            with closing(sandbox.call(lambda: socket.socket(family, socket.SOCK_DGRAM))) as sender:
                sender.bind((source, 0))
                sender.sendto(packet, (target, 14789))

        return send

    def forged():
        frame = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:03") / IPv6(src=far, dst=inside)
        frame = frame / UDP(sport=40000, dport=14789) / packet
        with closing(socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as raw:
            raw.bind(("wire0", 0))
            raw.send(bytes(frame))

    # What has come through the tunnel is heard, so the others would be too.
    assert heard_after(by_udp(other, socket.AF_INET6, far, inside))
    before = dropped(one, "strangers"), dropped(one, "cleartext")
    assert not heard_after(by_udp(other, socket.AF_INET, other.address, one.address))
    assert not heard_after(forged)
    assert (dropped(one, "strangers"), dropped(one, "cleartext")) == (before[0] + 1, before[1] + 1)
    one.run("nft", "flush", "table", "inet", TABLE)
    assert heard_after(forged), "the rules are what keeps it out"


def test_who_has_another_key_than_was_told_is_let_in_nowhere(blue, tmp_path):
    one, other = blue
    assert one.pings("10.77.0.3")
    other.key = HostKey(tmp_path / "another.key")
    other.ensure(other.plan(one))
    assert not one.pings("10.77.0.3")
    assert not other.pings("10.77.0.2")
    # Once it is told it is let in again, and the former key is not.
    one.ensure(one.plan(other))
    assert wait_for(lambda: one.pings("10.77.0.3"))
    assert one.run("wg", "show", LINK, "peers").split() == [other.key.public]


def test_without_its_link_nothing_leaves_in_the_clear(blue):
    one, other = blue
    assert one.pings("10.77.0.3")
    one.run("ip", "link", "del", LINK)
    with on_the_wire() as frames:
        assert not one.pings("10.77.0.3", "-p", SECRET.hex()[:32])
    assert (ports(frames) - {PORT}, dropped(one, "cleartext") > 0) == (set(), True)
    # It is the rules that keep it in: there is a way out.
    one.run("nft", "flush", "table", "inet", TABLE)
    with on_the_wire() as frames:
        assert not one.pings("10.77.0.3")
    assert 14789 in ports(frames)
    one.remove(one.plan(other))
    one.ensure(one.plan(other))
    assert one.pings("10.77.0.3")


def test_a_container_cannot_speak_as_its_host(blue):
    """Not even where the host lets it out, and translates."""
    one, other = blue
    far = address_inside("blue", other.id)
    with closing(Sandbox()) as container:
        one.run("ip", "link", "add", "ct0", "type", "veth", "peer", "name", "ct1")
        name = f"/proc/{os.getpid()}/fd/{container.descriptor}"
        one.run("ip", "link", "set", "ct1", "netns", name)
        one.run("ip", "addr", "add", "fd55::1/64", "dev", "ct0", "nodad")
        one.run("ip", "link", "set", "ct0", "up")
        one.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        container.run("ip", "link", "set", "ct1", "up")
        container.run("ip", "addr", "add", "fd55::2/64", "dev", "ct1", "nodad")
        container.run("ip", "-6", "route", "add", "default", "via", "fd55::1")
        chain = "chain ip6 t c { type nat hook postrouting priority 100; }"
        one.run("nft", f"add table ip6 t; add {chain}; add rule ip6 t c masquerade")
        before = dropped(one, "cleartext")
        with closing(container.call(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))) as sender:
            sender.sendto(b"as the host", (far, 14789))
        wait_for(lambda: dropped(one, "cleartext") == before + 1)


def test_all_of_it_comes_back_and_goes_away(blue):
    one, other = blue
    inside, far = address_inside("blue", one.id), address_inside("blue", other.id)
    assert one.owned() == [("tunnel", inside), ("tunnel-peer", far)]
    green = one.plan(other, name="green", vni=78)
    one.ensure(green)
    assert len(one.owned()) == 4
    carriers = one.carriers()
    for spoil in (
        f"wg set {LINK} peer {other.key.public} remove",
        f"wg set {LINK} listen-port 5",
        f"wg set {LINK} peer {HostKey(one.key._path.with_name('strange.key')).public} allowed-ips ::/0",
        f"ip -6 addr flush dev {LINK}",
        f"ip link set {LINK} down",
        f"ip link del {LINK}",
    ):
        one.run("sh", "-ec", spoil)
        known = {want.key for want in (*one.plan(other), *green)}
        one.call(
            lambda known=known: [one.tunnels.remove(have) for have in one.tunnels.owned() if have.key not in known]
        )
        one.ensure([*one.plan(other), *green])
        assert one.pings("10.77.0.3"), spoil
        assert (len(one.owned()), one.run("wg", "show", LINK, "listen-port").strip()) == (4, str(PORT)), spoil
    if carriers:
        [carrier] = one.carriers()
        os.kill(carrier, signal.SIGKILL)
        wait_for(lambda: LINK not in one.run("ip", "link"))
        one.call(lambda: list(one.tunnels.owned()))
        one.ensure([*one.plan(other), *green])
        assert one.pings("10.77.0.3")
    one.remove(green)
    assert one.pings("10.77.0.3")
    one.remove(one.plan(other))
    assert one.owned() == []
    assert LINK not in one.run("ip", "link")
    wait_for(lambda: not one.carriers())


def test_another_process_finds_it_as_it_is_and_ensuring_twice_changes_nothing(blue):
    one, other = blue
    before = one.run("ip", "-d", "addr", "show", LINK), one.carriers()
    successor = Tunnels(one.netlink, lambda: one.key.private)
    wanted = [want for want in one.plan(other) if isinstance(want, Tunnel | TunnelPeer)]
    one.call(lambda: [successor.ensure(want) for want in wanted])
    assert (one.run("ip", "-d", "addr", "show", LINK), one.carriers()) == before
    assert one.pings("10.77.0.3")


def test_the_private_key_is_where_nobody_else_reads_it(blue, tmp_path):
    one, _ = blue
    [path] = tmp_path.glob(f"{one.id}.key")
    assert path.stat().st_mode & 0o777 == 0o600
    assert HostKey(path).public == one.key.public == one.run("wg", "show", LINK, "public-key").strip()
    for pid in one.carriers():
        for name in ("cmdline", "environ"):
            assert one.key.private.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
    path.write_text("no key\n")
    with pytest.raises(StateError, match="holds no WireGuard key; delete it, and pynet makes another one"):
        HostKey(path).private  # noqa: B018


def test_what_is_in_the_way_is_named(hosts):
    one, other = hosts
    [tunnel, *_] = [want for want in one.plan(other) if isinstance(want, Tunnel)]
    [peer] = [want for want in one.plan(other) if isinstance(want, TunnelPeer)]
    with pytest.raises(NotFound, match=f"{LINK} is gone; send SIGHUP"):
        one.ensure([peer])
    one.run("ip", "link", "add", LINK, "type", "bridge")
    with pytest.raises(Conflict, match="belongs to somebody else; rename or delete it"):
        one.ensure([tunnel])
    assert one.owned() == []
    one.run("ip", "link", "del", LINK)
    with closing(one.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))) as taken:
        taken.bind(("", PORT))
        with pytest.raises(Conflict, match=f"cannot open UDP port {PORT}"):
            one.ensure([tunnel])


def test_what_a_host_lacks_is_told_with_the_way_out(hosts, tmp_path):
    one, other = hosts

    def missing():
        return one.call(lambda: lack(one.netlink))

    def hide(path):
        """The host has it no more."""
        empty = tmp_path if Path(path).is_dir() else "/dev/null"
        one.run("mount", "--bind", str(empty), path)

    assert missing() == ""
    by_kernel = subprocess.run(["ip", "link", "add", "wg9", "type", "wireguard"], capture_output=True).returncode == 0
    hide("/dev/net")
    assert by_kernel or "wireguard-go needs /dev/net/tun, which pynet does not see: modprobe tun" in missing()
    hide("/usr/bin/wireguard-go")
    assert by_kernel or missing().startswith("this kernel has no WireGuard, and the program wireguard-go is not")
    hide("/usr/bin/wg")
    assert missing().startswith(
        "the program wg is not installed, as in a managed plugin: apt-get install wireguard-tools wireguard-go"
    )
    with pytest.raises(Unavailable, match=f"cannot create {LINK}: the program wg is not installed"):
        one.ensure(one.plan(other))
