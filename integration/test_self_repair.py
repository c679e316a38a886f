"""What others change of ours is noticed, said in the log and put right within two seconds."""

import contextlib
from collections.abc import Iterator

import pytest

from integration.lab import snapshot
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.wirehost import WireHost

WITHIN_S = 2.0
SWITCH = "/proc/sys/net/ipv4/ip_forward"
BREAK = {
    "iptables -F": ("iptables -F; iptables -t nat -F", "the firewall"),
    "iptables -F -X": ("for t in filter nat; do iptables -t $t -F; iptables -t $t -X; done", "the firewall"),
    "nft flush ruleset": ("nft flush ruleset", "the firewall"),
    "bridge deleted": ("ip link del {bridge}", "the link of"),
    "bridge down": ("ip link set {bridge} down", "the link of"),
    "address deleted": ("ip address del 10.61.0.1/24 dev {bridge}", "the address 10.61.0.1"),
    "ip_forward=0": (f"echo 0 >{SWITCH}", "the forwarding of packets"),
}


@contextlib.contextmanager
def restored(host: Host) -> Iterator[None]:
    """After the block the engine's own rules are there again, which are not ours to repair."""
    saved = {program: host.run(f"{program}-save") for program in ("iptables", "ip6tables")}
    try:
        yield
    finally:
        for program, rules in saved.items():
            host.run(f"{program}-restore", stdin=rules)


def lacking(host: Host, before: snapshot.Snapshot) -> list[str]:
    """What the host had of ours and has no more."""
    lost = [line for line in before.difference(snapshot.take(host.machine)) if line.startswith("-")]
    lost += [f"- {SWITCH}"] if host.run("cat", SWITCH).strip() == "0" else []
    return [line for line in lost if any(ours in line for ours in ("PYNET", "pynet", "pn-", "pnv", SWITCH))]


@pytest.mark.parametrize("what", BREAK)
def test_it_is_noticed_and_repaired(host: Host, outside: WireHost, what: str) -> None:
    command, notice = BREAK[what]
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    host.web("ann", "--network", "n1", "-p", "8080:80")
    assert outside.ask("http", host.address, 8080) == outside.address
    before = snapshot.take(host.machine)
    bridge = "pn-" + host.docker("network", "inspect", "--format", "{{.Id}}", "n1")[:8]
    log = host.plugins["pynet"].log
    read = log.stat().st_size
    with restored(host):
        host.run("sh", "-c", command.format(bridge=bridge))
        wait_for("all of ours is there", lambda: not lacking(host, before), WITHIN_S)
        assert f"{notice}" in log.read_text()[read:]
        assert outside.ask("http", host.address, 8080) == outside.address
        host.sh("ann", f"ping -c1 -W3 -w5 {outside.address}")
