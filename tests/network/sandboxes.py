"""Endpoints as the engine would have them: network namespaces with the other end of a pair, an address and a route."""

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_interface
from typing import Any

from netplugin.kernel.bridge import Bridges
from netplugin.kernel.links import Veths
from netplugin.kernel.netlink import Netlink
from netplugin.resources import Bridge, Veth

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)

BRIDGE = "pn-1a2b3c4d"
GATEWAY4, GATEWAY6 = "10.9.0.1", "fd09::1"


def command(*words: str, **options: Any) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, **options).stdout


def enter(descriptor: int) -> None:
    if LIBC.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Sandbox:
    """A namespace that lives until it is closed."""

    def __init__(self) -> None:
        self.descriptor = _in_thread(_new_namespace)

    def call(self, function: Callable[[], Any]) -> Any:
        """Return what `function` returns in the namespace; a socket opened there stays there."""

        def inside() -> Any:
            enter(self.descriptor)
            return function()

        return _in_thread(inside)

    def run(self, *words: str) -> str:
        name = f"/proc/self/fd/{self.descriptor}"
        return command("nsenter", f"--net={name}", *words, pass_fds=(self.descriptor,))

    def take(self, link: str) -> None:
        command("ip", "link", "set", link, "netns", f"/proc/{os.getpid()}/fd/{self.descriptor}")

    def close(self) -> None:
        os.close(self.descriptor)


class Container(Sandbox):
    """Number n of a network: pnv0000000n in the bridge, eth0 with 10.9.0.n and fd09::n inside."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.link, self.peer = f"pnv0000000{number}", f"pnc0000000{number}"
        self.mac = f"02:42:0a:09:00:0{number}"
        self.address4, self.address6 = f"10.9.0.{number}", f"fd09::{number}"
        self.link_local = f"fe80::42:aff:fe09:{number}"

    def join(self, veths: Veths) -> None:
        veths.ensure(Veth(self.link, self.peer, self.mac, BRIDGE, 1500, False, False, "pynet endpoint of a test"))
        self.take(self.peer)
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "set", self.peer, "name", "eth0", "up")
        self.run("ip", "addr", "add", f"{self.address4}/24", "dev", "eth0")
        self.run("ip", "addr", "add", f"{self.address6}/64", "dev", "eth0", "nodad")

    def socket(self, *kind: int) -> socket.socket:
        opened: socket.socket = self.call(lambda: socket.socket(*kind))
        opened.settimeout(5)
        return opened


@contextmanager
def lan(netlink: Netlink, count: int) -> Iterator[list[Container]]:
    """The test's namespace has a bridge; yield `count` containers on it, numbered from 2."""
    addresses = (ip_interface(f"{GATEWAY4}/24"), ip_interface(f"{GATEWAY6}/64"))
    Bridges(netlink).ensure(Bridge(BRIDGE, "02:00:00:00:00:01", 1500, addresses, "pynet network of a test"))
    veths = Veths(netlink)
    containers = [Container(number) for number in range(2, 2 + count)]
    try:
        for container in containers:
            container.join(veths)
        yield containers
    finally:
        for container in containers:
            container.close()


def _in_thread(function: Callable[[], Any]) -> Any:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(function()))
    thread.start()
    thread.join()
    return answers[0]


def _new_namespace() -> int:
    if LIBC.unshare(CLONE_NEWNET):
        raise OSError("unshare")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)
