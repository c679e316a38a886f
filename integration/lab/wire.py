"""The wire that the lab's machines share: a bridge in a namespace of its own."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from integration.lab.namespace import Namespace

NETWORK, NETWORK6 = "10.90.0.", "fd90::"


class Wire:
    """An Ethernet segment with 10.90.0.1 and fd90::1 on it, to which machines are attached as eth0."""

    def __init__(self, root: Path) -> None:
        self.machine = Namespace("wire", root)
        self._numbers: dict[str, int] = {}
        run = self.machine.run
        run("ip", "link", "add", "wire0", "type", "bridge")
        # Frames between the lab's machines must not be looked at by this namespace's firewall.
        run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0")
        run("ip", "address", "add", NETWORK + "1/24", "dev", "wire0")
        run("ip", "-6", "address", "add", NETWORK6 + "1/64", "dev", "wire0", "nodad")
        run("ip", "link", "set", "wire0", "up")

    def attach(self, machine: Namespace) -> tuple[str, str]:
        """The machine has an eth0 on the wire; its two addresses are returned, the same ones for the same name."""
        number = self._numbers.setdefault(machine.name, len(self._numbers) + 11)
        port = f"port{number}"
        address, address6 = f"{NETWORK}{number}", f"{NETWORK6}{number}"
        # The same name gets the same MAC: after a reboot the neighbours still know it.
        peer = ["peer", "name", "eth0", "address", f"02:00:0a:5a:00:{number:02x}"]
        # The kernel takes the namespace of a machine that was cut off down when it finds the time.
        self.machine.try_run("ip", "link", "del", port)
        # A pid is the only name that a namespace without a mount of its own has; it is ours, not the wire's.
        self._run_in_net("ip", "link", "add", port, "type", "veth", *peer, "netns", str(machine.pid))
        self.machine.run("ip", "link", "set", port, "master", "wire0", "up")
        machine.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        machine.run("ip", "-6", "address", "add", f"{address6}/64", "dev", "eth0", "nodad")
        machine.run("ip", "link", "set", "eth0", "up")
        machine.run("ip", "route", "add", "default", "via", NETWORK + "1")
        return address, address6

    @contextlib.contextmanager
    def parted(self, one: Namespace, *others: Namespace) -> Iterator[None]:
        """Inside the block no frame passes between a machine and these others, and nobody is told."""
        table, port = f"parted{self._numbers[one.name]}", f"port{self._numbers[one.name]}"
        far = ", ".join(f"port{self._numbers[other.name]}" for other in others)
        rules = [f"iifname {port} oifname {{ {far} }} drop", f"iifname {{ {far} }} oifname {port} drop"]
        chain = "\n".join(["type filter hook forward priority 0;", *rules])
        self.machine.run("nft", "-f", "-", stdin=f"table bridge {table} {{\nchain forward {{\n{chain}\n}}\n}}\n")
        try:
            yield
        finally:
            self.machine.run("nft", "delete", "table", "bridge", table)

    def _run_in_net(self, *argv: str) -> None:
        """The command was run in the wire's network namespace only, so that it sees this machine's processes."""
        subprocess.run(["nsenter", f"--target={self.machine.pid}", "--net", "--", *argv], check=True, timeout=10)

    def close(self) -> None:
        """The wire is gone, and with it every link on it."""
        self.machine.close()
