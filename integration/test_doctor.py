"""The administrator's commands of pynet: what they show beside a real engine, and what the doctor finds and heals."""

import json
from pathlib import Path

import pytest

from integration.lab import plugin, unixhttp
from integration.lab.deadline import wait_for
from integration.lab.host import Host

SUBNET = "10.61.0.0/24"
SICK = ("--network", "n1")


def pynet(host: Host, *words: str) -> str:
    """What the command prints, which must succeed."""
    return host.run(plugin.script("pynet"), *words, "--state-dir", str(host.root / "pynet"))


def doctor(host: Host, *words: str) -> dict[str, str]:
    """What the doctor finds but for notes, each with its cure."""
    argv = (plugin.script("pynet"), "doctor", *words, "--json", "--state-dir", str(host.root / "pynet"))
    done = host.machine.try_run(*argv)
    found = json.loads(done.stdout)
    real = {each["what"]: each["cure"] for each in found if each["level"] != "note"}
    assert done.returncode == bool(real), done
    return real


def create(host: Host, name: str = "n1", *words: str) -> str:
    """A network of ours; return its ID."""
    return host.docker("network", "create", "-d", host.drivers.network, "--subnet", SUBNET, *words, name)


def plugin_is_told(host: Host, method: str, body: str) -> int:
    """The plugin was sent a request of which the engine knows nothing; return the status of its answer."""
    socket = Path(f"/proc/{host.plugins['pynet'].pid}/root{plugin.SOCKETS}/pynet.sock")
    return unixhttp.status(socket, "POST", f"/NetworkDriver.{method}", body)


@pytest.mark.everywhere
def test_what_is_there_is_listed_by_the_names_that_the_engine_gave(host: Host) -> None:
    network = create(host, "n1", "-o", "publish_from=10.0.0.0/8")
    host.idle("ann", "--network", "n1", "--ip", "10.61.0.77", "-p", "8080:80", "-p", "9000-9099:9000-9099/udp")
    [line] = [line.split() for line in pynet(host, "ls").splitlines()[1:]]
    assert line == ["n1", network[:12], "bridge", f"pn-{network[:8]}", SUBNET, "1", "101"]
    [line] = [line.split() for line in pynet(host, "endpoints").splitlines()[1:]]
    assert line[:3] == ["n1", "ann", "10.61.0.77"]
    lines = [line.split() for line in pynet(host, "ports").splitlines()[1:]]
    assert lines == [
        ["0.0.0.0", "8080/tcp", "ann", "80", "n1", "10.0.0.0/8"],
        ["0.0.0.0", "9000-9099/udp", "ann", "9000-9099", "n1", "10.0.0.0/8"],
    ]
    [known] = json.loads(pynet(host, "inspect", "n1"))
    assert known == json.loads(pynet(host, "inspect", network[:6]))[0]
    assert (known["ID"], known["Options"]) == (network, {"publish_from": ["10.0.0.0/8"]})
    assert known["Endpoints"][0]["Sandbox"]
    refused = host.machine.try_run(plugin.script("pynet"), "inspect", "n2", "--state-dir", str(host.root / "pynet"))
    assert (refused.returncode, refused.stderr) == (1, "pynet: cannot find network n2: there is none; see pynet ls\n")


@pytest.mark.everywhere
def test_a_healthy_host_has_nothing_but_notes(host: Host) -> None:
    create(host)
    host.idle("ann", *SICK, "-p", "8080:80")
    assert doctor(host) == {}
    assert "anybody who reaches this host reaches ann at 8080/tcp" in pynet(host, "doctor")


def test_an_overlay_that_is_alone(host: Host) -> None:
    create(host, "blue", "-o", "type=overlay", "-o", "name=blue")
    assert doctor(host) == {}
    said = pynet(host, "doctor")
    assert "note: the overlay blue is on this host alone" in said
    assert "run pynet with PYNET_CLUSTER" in said


def test_a_network_that_the_engine_has_forgotten(host: Host) -> None:
    network = create(host)
    host.engine.kill()
    host.run("find", str(host.root / "data" / "network"), "-name", "*.db", "-delete")
    host.ensure_running()
    [(what, cure)] = doctor(host).items()
    assert what == f"no engine knows network {network[:12]} ({SUBNET})"
    assert f"pynet delete-network {network}" in cure
    assert doctor(host, "--fix"), "no engine was ever seen to know it: it may be that of one that is not asked"
    # What `pynet delete-network` says to it.
    assert plugin_is_told(host, "DeleteNetwork", json.dumps({"NetworkID": network})) == 200
    assert doctor(host) == {}
    assert pynet(host, "ls").splitlines()[1:] == []


def test_a_network_and_a_container_that_pynet_has_lost(host: Host) -> None:
    network = create(host)
    host.idle("ann", *SICK)
    endpoint = host.facts("ann", "(index .NetworkSettings.Networks.n1).EndpointID")
    ids = json.dumps({"NetworkID": network, "EndpointID": endpoint})
    assert plugin_is_told(host, "DeleteEndpoint", ids) == 200
    assert doctor(host) == {"container ann is on network n1, of which pynet knows nothing": "docker restart ann"}
    host.docker("restart", "--time", "0", "ann")
    assert doctor(host) == {}
    host.docker("rm", "-f", "ann")
    assert plugin_is_told(host, "DeleteNetwork", ids) == 200
    [(what, cure)] = doctor(host).items()
    assert what == "the engine has a network n1, of which pynet knows nothing"
    assert cure.startswith("docker network rm n1")


def test_what_stands_in_the_way_of_a_bridge(host: Host) -> None:
    bridge = f"pn-{create(host)[:8]}"
    host.run("sh", "-c", f"ip link del {bridge}; ip link add {bridge} type ifb")
    wait_for("a failed repair", lambda: doctor(host), 10)
    assert any(bridge in what for what in doctor(host, "--fix")), "the way out is not to delete what is somebody's"
    host.run("ip", "link", "del", bridge)
    assert doctor(host, "--fix") == {}
    assert "10.61.0.1" in host.run("ip", "-4", "addr", "show", bridge)


def test_others_that_drop_what_is_forwarded(host: Host) -> None:
    create(host)
    try:
        chain = "{ type filter hook forward priority 0; policy drop; }"
        host.run("nft", f"add table inet mine; add chain inet mine forward {chain}")
        host.run("iptables-legacy", "-P", "FORWARD", "DROP")
        found = sorted(what.partition(" drops ")[0] for what in doctor(host))
        assert found == ["the chain FORWARD of iptables-legacy", "the chain forward of the nft table inet mine"]
    finally:
        host.run("iptables-legacy", "-P", "FORWARD", "ACCEPT")
        host.run("nft", "delete table inet mine")
    assert doctor(host) == {}


def test_a_way_out_that_is_narrower_than_a_network(host: Host) -> None:
    create(host, "n1", "-o", "com.docker.network.driver.mtu=1500")
    way_out = host.run("ip", "-o", "route", "show", "default").split(" dev ")[1].split()[0]
    host.run("ip", "link", "set", way_out, "mtu", "1400")
    try:
        [(what, cure)] = doctor(host).items()
        assert what.startswith("the MTU of n1 is 1500, that of the way out 1400")
        assert cure.endswith("-o com.docker.network.driver.mtu=1400")
    finally:
        host.run("ip", "link", "set", way_out, "mtu", "1500")


def test_a_route_into_the_middle_of_a_network(host: Host) -> None:
    create(host)
    host.run("sh", "-c", "ip link add vpn0 type bridge; ip link set vpn0 up; ip route add 10.61.0.128/25 dev vpn0")
    try:
        [(what, _)] = doctor(host).items()
        assert what == f"the host has a route to 10.61.0.128/25 by vpn0, inside n1 ({SUBNET})"
    finally:
        host.run("ip", "link", "del", "vpn0")
    assert doctor(host) == {}


def test_without_an_engine_ids_are_shown(host: Host) -> None:
    network = create(host)
    nowhere = ("--engine", "/run/nowhere.sock")
    assert pynet(host, "ls", *nowhere).splitlines()[1].split()[0] == network[:12]
    assert list(doctor(host, *nowhere)) == ["no engine could be asked what it knows"]


def test_no_pynet_is_said_so(host: Host) -> None:
    done = host.machine.try_run(plugin.script("pynet"), "ls", "--state-dir", str(host.root))
    assert done.returncode == 1
    assert done.stderr.startswith("pynet: cannot reach pynet at ")
    assert "is pynet running" in done.stderr
