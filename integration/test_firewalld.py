"""Beside a real firewalld, set up as docs/operating.md says: everything works, and goes on after each reload."""

import contextlib
from collections.abc import Iterator

import pytest

from integration.lab.circumstances import answering, engines_rules_kept
from integration.lab.daemon import Daemon
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.wirehost import WireHost

# dbus-daemon starts polkitd where there is one; it ends with the bus, but not at once.
PROGRAMS = {
    "dbus": ["dbus-daemon", "--system", "--nofork", "--nopidfile"],
    "firewalld": ["firewalld", "--nofork", "--nopid"],
}
ANSWERS = {"dbus": ("test", "-S", "/run/dbus/system_bus_socket"), "firewalld": ("firewall-cmd", "--state")}


@pytest.fixture(params=["nftables", "iptables"])
def firewalld(host: Host, request: pytest.FixtureRequest) -> Iterator[None]:
    """A firewalld runs on the host, as a fresh Debian has it, with either of its own backends."""
    backend = f"s/^FirewallBackend=.*/FirewallBackend={request.param}/"
    host.run("sh", "-c", f"mkdir -p /run/dbus; dbus-uuidgen --ensure; sed -i {backend} /etc/firewalld/firewalld.conf")
    tables = set(host.run("nft", "list", "tables").splitlines())
    with contextlib.ExitStack() as stack:
        stack.enter_context(engines_rules_kept(host))
        for name, argv in PROGRAMS.items():
            check = ANSWERS[name]
            daemon = Daemon(host.machine, name, argv, lambda check=check: not host.machine.try_run(*check).returncode)
            stack.callback(lambda daemon=daemon: daemon.stop() if daemon.runs() else None)
            daemon.start()
        yield
        host.run("sh", "-c", "rm -f /etc/firewalld/zones/trusted.xml*; firewall-cmd -q --reload")
    # With its iptables backend it leaves empty ones.
    for table in set(host.run("nft", "list", "tables").splitlines()) - tables:
        host.run("nft", "delete", *table.split())
    wait_for("polkitd is gone", lambda: host.machine.try_run("pgrep", "polkitd").returncode)


@pytest.mark.usefixtures("firewalld")
def test_everything_works_and_goes_on_after_a_reload(host: Host, outside: WireHost) -> None:
    for command in ("--permanent --zone=trusted --add-interface=pn-+", "--reload"):
        host.run("firewall-cmd", "-q", *command.split())
    host.docker("network", "create", "-d", host.drivers.network, "--subnet", "10.61.0.0/24", "n1")
    host.web("web", "--network", "n1", "-p", "8080:80")
    host.idle("ann", "--network", "n1")
    inside = host.network_of("ann")
    wanted = {
        "world": f"tcp {outside.address} 9000",
        "host": "ping 10.61.0.1",
        "neighbour": f"tcp {host.address_of('web', 'n1')} 80",
        "published": f"tcp {host.address} 8080",
    }

    def works() -> bool:
        from_host = answering(host, {"published": f"tcp {host.address} 8080", "loopback": "tcp 127.0.0.1 8080"})
        from_world = answering(outside, {"published": f"tcp {host.address} 8080"})
        return (answering(host, wanted, inside), len(from_host), len(from_world)) == (set(wanted), 2, 1)

    with outside.answering("tcp", 9000):
        wait_for("everything works", works, 15)
        for reload in ("--reload", "--complete-reload"):
            host.run("firewall-cmd", "-q", reload)
            # Seconds to notice and repair, and the tries themselves wait for what does not answer.
            wait_for(f"everything works after {reload}", works, 15)
