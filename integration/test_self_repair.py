"""What others change of ours is noticed, said in the log and put right within two seconds."""

import pytest

from integration.lab import snapshot
from integration.lab.circumstances import engines_rules_kept
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.wirehost import WireHost

WITHIN_S = 2.0
SWITCH = "/proc/sys/net/ipv4/ip_forward"
SWITCH6 = "/proc/sys/net/ipv6/conf/all/forwarding"
# What a hardened machine has in /etc/sysctl.d.
HARDEN = "printf 'net.ipv4.ip_forward=0\\nnet.ipv6.conf.all.forwarding=0\\n' | sysctl -q -p -"
SUBNETS = ("--subnet", "10.61.0.0/24", "--ipv6", "--subnet", "fd61::/64")
BREAK = {
    "iptables -F": ("iptables -F; iptables -t nat -F", "the firewall"),
    "iptables -F -X": ("for t in filter nat; do iptables -t $t -F; iptables -t $t -X; done", "the firewall"),
    "nft flush ruleset": ("nft flush ruleset", "the firewall"),
    "bridge deleted": ("ip link del {bridge}", "the link of"),
    "bridge down": ("ip link set {bridge} down", "the link of"),
    "address deleted": ("ip address del 10.61.0.1/24 dev {bridge}", "the address 10.61.0.1"),
    "ip_forward=0": (f"echo 0 >{SWITCH}", "the forwarding of ipv4 packets"),
    "IPv6 forwarding=0": (f"echo 0 >{SWITCH6}", "the forwarding of ipv6 packets"),
    "route_localnet=0": ("echo 0 >/proc/sys/net/ipv4/conf/{bridge}/route_localnet", "the sysctl net/ipv4/conf"),
    "sysctl -p": (HARDEN, "the forwarding of ipv"),
}


def is_untouched(host: Host, what: str) -> bool:
    """Whether it takes nothing of ours away: where all rules are iptables-legacy's, nf_tables has none."""
    alone = host.drivers.firewall == "iptables" and host.drivers.iptables == "legacy"
    return what.startswith("nft") and alone


def within_s(host: Host, what: str) -> float:
    """How long the repair may take. What tells nobody of changes is looked at every five seconds."""
    untold = what == "route_localnet=0" or (what.startswith("iptables") and host.drivers.iptables == "legacy")
    return 4 * WITHIN_S if untold else WITHIN_S


def lacking(host: Host, before: snapshot.Snapshot) -> list[str]:
    """What the host had of ours and has no more."""
    lost = [line for line in before.difference(snapshot.take(host.machine)) if line.startswith("-")]
    lost = [line for line in lost if any(ours in line for ours in ("PYNET", "pynet", "pn-", "pnv"))]
    own = host.run("sh", "-c", "grep -l ^0 /proc/sys/net/ipv4/conf/pn-*/route_localnet || true").split()
    return lost + own + [switch for switch in (SWITCH, SWITCH6) if host.run("cat", switch).strip() == "0"]


@pytest.mark.parametrize("what", BREAK)
def test_it_is_noticed_and_repaired(host: Host, outside: WireHost, what: str) -> None:
    command, notice = BREAK[what]
    host.docker("network", "create", "-d", host.drivers.network, *SUBNETS, "n1")
    host.web("ann", "--network", "n1", "-p", "8080:80")
    assert outside.ask("http", host.address, 8080) == outside.address
    before = snapshot.take(host.machine)
    bridge = "pn-" + host.docker("network", "inspect", "--format", "{{.Id}}", "n1")[:8]
    log = host.plugins["pynet"].log
    read = log.stat().st_size
    with engines_rules_kept(host):
        host.run("sh", "-c", command.format(bridge=bridge))
        wait_for("all of ours is there", lambda: not lacking(host, before), within_s(host, what))
        assert (notice in log.read_text()[read:]) != is_untouched(host, what)
        assert outside.ask("http", host.address, 8080) == outside.address
        host.sh("ann", f"ping -c1 -W3 -w5 {outside.address}")
