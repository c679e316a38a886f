"""Hosts with an encrypted overlay, as their plans say, on one wire, and what is to be seen on it."""

import ctypes
import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path

from scapy.layers.inet import UDP
from scapy.layers.l2 import Ether

from netplugin.kernel.bridge import Bridges
from netplugin.kernel.firewall.nfnetlink import Nfnetlink
from netplugin.kernel.netlink import Netlink
from netplugin.kernel.overlay.fdb import VxlanFdb
from netplugin.kernel.overlay.guard import TABLE, OverlayGuards
from netplugin.kernel.overlay.probes import ProbeRelays
from netplugin.kernel.overlay.tunnel import Tunnels
from netplugin.kernel.overlay.vxlan import VxlanDevices
from netplugin.kernel.sysctl import Sysctls
from netplugin.options import NetworkOptions
from netplugin.overlay.plan import plan_overlay, plan_remote_host
from netplugin.overlay.secret import HostKey
from netplugin.overlay.tunnel import LINK, Tunnel, TunnelPeer, address_inside, endpoint_of
from netplugin.records import Overlay, RemoteHost
from netplugin.resources import Bridge, FdbEntry, OverlayGuard, OverlayMember, OverlayProbes, Sysctl, Vxlan
from tests.network.samples import network
from tests.network.sandboxes import LIBC, Sandbox, command, enter

CLONE_NEWNS, MS_PRIVATE_RECURSIVE = 0x20000, 0x44000
ETH_P_ALL = 3
MTU = 1370
SECRET = b"not for everybody"


class Host(Sandbox):
    """A host with network and mounts of its own: 10.90.0.N and fd90::N on the wire, 10.9.0.N on its bridges."""

    def __init__(self, root, number):
        super().__init__()
        self.number, self.address, self.id = number, f"10.90.0.{number}", f"host{number}"
        # One thread for all that is done there: what netlink keeps for a thread is closed by it.
        self._inside = ThreadPoolExecutor(1)
        self.mounts = self._inside.submit(self._enter).result()
        self.key = HostKey(root / f"{self.id}.key")
        port = f"port{number}"
        command("ip", "link", "add", port, "type", "veth", "peer", "name", f"eth{number}")
        command("ip", "link", "set", port, "master", "wire0", "up")
        self.take(f"eth{number}")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "set", f"eth{number}", "name", "eth0", "address", f"02:00:00:00:00:{number:02x}", "up")
        self.run("ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "addr", "add", f"fd90::{number}/64", "dev", "eth0", "nodad")
        # Whatever has no other way leaves by the wire.
        self.run("ip", "-6", "route", "add", "default", "via", "fd90::1")
        self.netlink, self.nfnetlink = Netlink(), Nfnetlink()
        guards = OverlayGuards(self.nfnetlink)
        self.tunnels = Tunnels(self.netlink, lambda: self.key.private)
        self.kernels = {
            Bridge: Bridges(self.netlink),
            OverlayGuard: guards,
            OverlayMember: guards,
            Tunnel: self.tunnels,
            TunnelPeer: self.tunnels,
            Vxlan: VxlanDevices(self.netlink),
            OverlayProbes: ProbeRelays(self.nfnetlink),
            FdbEntry: VxlanFdb(self.netlink),
            Sysctl: Sysctls(),
        }

    def call(self, function):
        return self._inside.submit(function).result()

    def run(self, *words):
        names = [f"--net=/proc/self/fd/{self.descriptor}", f"--mount=/proc/self/fd/{self.mounts}"]
        return command("nsenter", *names, *words, pass_fds=(self.descriptor, self.mounts))

    def plan(self, *others, name="blue", vni=77, mtu=MTU, version=4):
        """The bridge and what an encrypted network means to this host, and what others on it do."""
        options = NetworkOptions(type="overlay", name=name, encrypted=True)
        inside = address_inside(name, self.id)
        overlay = Overlay(vni, 14789, inside, (), name)
        one = replace(network(options=options), id=f"{vni:08x}" * 8, mtu=mtu, overlay=overlay)
        bridge = f"pn-{one.id[:8]}"
        own = ip_interface(f"10.{vni}.0.{self.number}/24")
        mac = f"02:00:00:00:{vni:02x}:{self.number:02x}"
        resources = [
            Bridge(bridge, mac, mtu, (own,), f"pynet network {one.id}"),
            *plan_overlay(one, one.overlay, bridge, ()),
        ]
        for other in others:
            told = RemoteHost(
                address_inside(name, other.id),
                other.key.public,
                endpoint_of(ip_address(other.address if version == 4 else f"fd90::{other.number}")),
            )
            resources += plan_remote_host(told, one)
        return resources

    def ensure(self, resources):
        def inside():
            for want in resources:
                self.kernels[type(want)].ensure(want)

        self.call(inside)

    def remove(self, resources):
        def inside():
            for want in reversed(resources):
                self.kernels[type(want)].remove(want)

        self.call(inside)

    def owned(self):
        return sorted(have.key for have in self.call(lambda: list(self.tunnels.owned())))

    def pings(self, address, *options):
        try:
            self.run("ping", "-c1", "-W1", *options, address)
        except subprocess.CalledProcessError:
            return False
        return True

    def carriers(self):
        """The processes that carry the host's link."""
        return carriers(os.fstat(self.descriptor).st_ino)

    def close(self):
        try:
            self.run("sh", "-c", f"ip link del {LINK} 2>/dev/null || true")
            wait_for(lambda: not self.carriers())
        finally:
            self.call(self.netlink.close)
            self.nfnetlink.close()
            self._inside.shutdown()
            os.close(self.mounts)
            super().close()

    def _enter(self):
        """The thread is in the host's network, and in mounts of its own, where /run is empty; return these.

        wireguard-go has its socket in /run, under the link's name.
        """
        enter(self.descriptor)
        if LIBC.unshare(CLONE_NEWNS) or LIBC.mount(b"none", b"/", None, MS_PRIVATE_RECURSIVE, None):
            raise OSError(ctypes.get_errno(), "unshare")
        if LIBC.mount(b"run", b"/run", b"tmpfs", 0, None):
            raise OSError(ctypes.get_errno(), "mount")
        return os.open("/proc/thread-self/ns/mnt", os.O_RDONLY)


def carriers(network_namespace):
    """The processes that carry a link of the network namespace with that inode."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_here = (folder / "ns" / "net").stat().st_ino == network_namespace
            if is_here and b"wireguard-go" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def wait_for(ask, patience_s=10.0):
    deadline = time.monotonic() + patience_s
    while not (found := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@contextmanager
def on_the_wire():
    """After the block the list has the frames that went over the wire in it."""
    frames = []
    with closing(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))) as tap:
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        tap.bind(("wire0", ETH_P_ALL))
        # The bridge shows what its ports send each other to whoever listens to everything.
        command("ip", "link", "set", "wire0", "promisc", "on")
        yield frames
        time.sleep(0.3)
        tap.setblocking(False)
        try:
            while True:
                frames.append(Ether(tap.recv(65535)))
        except BlockingIOError:
            return


def ports(frames):
    """The UDP ports that frames went to."""
    return {frame[UDP].dport for frame in frames if UDP in frame}


def dropped(host, counter):
    text = host.run("nft", "list", "counter", "inet", TABLE, counter)
    return int(text.split("packets ")[1].split()[0])
