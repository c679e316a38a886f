"""pynet tries the way to each peer of an overlay, and says which do not carry its packets."""

from integration.lab import plugin
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.test_cluster import PORT, create, hosts
from integration.test_doctor import doctor

__all__ = ["hosts"]


def ways(host: Host) -> tuple[int, dict[str, str]]:
    """The exit status, and the state by the peer."""
    argv = (plugin.script("pynet"), "cluster", "ways", "--state-dir", str(host.root / "pynet"))
    done = host.machine.try_run(*argv)
    lines = [line.split() for line in done.stdout.splitlines()[1:]]
    return done.returncode, {peer: state for peer, port, state in lines if port == str(PORT)}


def test_a_hop_that_loses_large_packets_is_told(hosts: tuple[Host, ...]) -> None:
    here, there = hosts[:2]
    chain = f"chain c {{ type filter hook input priority 0; udp dport {PORT} meta length > 1300 drop; }}"
    there.run("nft", f"table inet narrow {{ {chain}; }}")
    create(hosts[:2], "blue", 61)
    wait_for("it is known to be narrow", lambda: ways(here) == (1, {there.address: "narrow"}), 15)
    told = f"large packets to {there.address} by UDP port {PORT} get lost on the way, small ones arrive"
    assert "its ICMP is lost: let that through" in doctor(here)[told]
    # The other way round they arrive.
    wait_for("that is known, too", lambda: ways(there) == (0, {here.address: "good"}), 15)
    there.run("nft", "delete table inet narrow")
    wait_for("they arrive", lambda: ways(here) == (0, {there.address: "good"}), 25)
    for host in (here, there):
        host.docker("network", "rm", "blue")
    wait_for("no way is looked at any more", lambda: ways(here) == (0, {}), 10)


def test_a_port_that_a_firewall_blocks_is_told_by_name(hosts: tuple[Host, ...]) -> None:
    here, there = hosts[:2]
    assert ways(here) == (0, {})
    chain = f"chain c {{ type filter hook input priority 0; udp dport {PORT} drop; }}"
    there.run("nft", f"table inet closed {{ {chain}; }}")
    create(hosts[:2], "blue", 61)
    wait_for("it is known to be silent", lambda: ways(here) == (1, {there.address: "silent"}), 15)
    told = f"the overlay's peer {there.address} does not answer on UDP port {PORT}"
    assert [cure for what, cure in doctor(here).items() if what == told] == [
        f"does pynet run there, and does each firewall let UDP port {PORT} through?"
    ]
    there.run("nft", "delete table inet closed")
    wait_for("it answers", lambda: ways(here) == (0, {there.address: "good"}), 25)
    assert told not in doctor(here)
    assert f"peer {there.address} is reached by UDP port {PORT}" in here.logs()
    for host in (here, there):
        host.docker("network", "rm", "blue")
    wait_for("no way is looked at any more", lambda: ways(here) == (0, {}), 10)
