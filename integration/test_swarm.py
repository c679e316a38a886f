"""Two nodes of one swarm, whose overlay is pynet's: the managed plugin with global scope."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from integration.lab import image
from integration.lab.circumstances import answering
from integration.lab.deadline import wait_for
from integration.lab.fleet import captured, started
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.wirehost import WireHost

Hosts = tuple[Host, ...]
PORT = 14789


@pytest.fixture(scope="module")
def swarm(lab: Lab) -> Iterator[Hosts]:
    """A manager and a worker."""
    hosts = started(lab, 2, replace(lab.drivers, volume="local", scope="global"))
    try:
        manager, worker = hosts
        manager.docker("swarm", "init", "--advertise-addr", manager.address)
        token = manager.docker("swarm", "join-token", "-q", "worker")
        worker.docker("swarm", "join", "--token", token, f"{manager.address}:2377")
        yield hosts
    finally:
        for host in hosts:
            lab.discard(host)


@pytest.fixture
def nodes(swarm: Hosts) -> Iterator[Hosts]:
    """Both; after the test nothing of pynet's is in their kernels."""
    yield swarm
    manager = swarm[0]
    for what in ("service", "network"):
        names = manager.docker(what, "ls", "-q", *(["--filter", "driver=pynet:latest"] if what == "network" else []))
        if names:
            manager.docker(what, "rm", *names.split())
    for host in swarm:
        wait_for(f"nothing left on {host.name}", lambda host=host: not ours(host), 30)


def ours(host: Host) -> list[str]:
    """What of pynet's is in the host's kernel."""
    links = [line for line in host.run("ip", "-o", "link").splitlines() if ": pn" in line]
    rules = [line for line in host.run("nft", "list", "ruleset").splitlines() if "pn-" in line or "pnx" in line]
    return links + rules


def create(manager: Host, name: str, *words: str) -> None:
    driver = manager.drivers.network
    manager.docker("network", "create", "-d", driver, "--scope", "swarm", "-o", "type=overlay", *words, name)


def serve(manager: Host, name: str, network: str, *words: str) -> None:
    """A service whose tasks, four unless `words` say otherwise, serve their host names."""
    script = "mkdir -p /tmp/w && hostname >/tmp/w/index.html && exec httpd -f -h /tmp/w -p 80"
    manager.docker(
        *("service", "create", "-d", "--name", name, *(words or ("--replicas", "4")), "--network", network),
        *("--endpoint-mode", "dnsrr", "--no-resolve-image", "--stop-grace-period=1s", image.NAME, "sh", "-c", script),
    )


def tasks(host: Host, service: str) -> list[str]:
    """The containers of the service that run on this host."""
    return host.docker("ps", "-q", "--filter", f"label=com.docker.swarm.service.name={service}").split()


def address_of(host: Host, container: str, network: str) -> str:
    return host.address_of(container, network)


def running(nodes: Hosts, service: str, count: int = 4) -> dict[str, Host]:
    """The addresses of the service's tasks on "blue", once all of them run, and where they are."""
    wait_for(f"{count} tasks run", lambda: sum(len(tasks(host, service)) for host in nodes) == count, 90)
    return {host.address_of(task, "blue"): host for host in nodes for task in tasks(host, service)}


def all_reach_all(nodes: Hosts, service: str, addresses: set[str]) -> bool:
    return all(
        answering(host, {address: f"tcp {address} 80" for address in addresses}, host.network_of(task)) == addresses
        for host in nodes
        for task in tasks(host, service)
    )


@pytest.mark.everywhere
def test_four_tasks_over_two_nodes(lab: Lab, nodes: Hosts) -> None:
    manager = nodes[0]
    create(manager, "blue", "--subnet", "10.61.0.0/24")
    create(manager, "green", "--subnet", "10.62.0.0/24")
    serve(manager, "web", "blue")
    serve(manager, "other", "green")
    places = running(nodes, "web")
    assert [list(places.values()).count(host) for host in nodes] == [2, 2]
    with captured(lab.wire, PORT) as frames:
        assert all_reach_all(nodes, "web", set(places))
    # Late tasks of the other service announce themselves meanwhile.
    assert len({frame.vni for frame in frames if frame.kind == "ip"}) == 1
    strangers = {address: f"tcp {address} 80" for address in places}
    stranger = wait_for("a task of the other service runs", lambda: tasks(manager, "other"), 60)[0]
    assert not answering(manager, strangers, manager.network_of(stranger))
    # The engine's DNS knows the tasks of all nodes.
    found = manager.sh(tasks(manager, "web")[0], "nslookup web 127.0.0.11 2>&1; true")
    assert {address for address in places if f"{address}\n" in f"{found}\n"} == set(places)


def test_each_node_is_a_way_out_and_publishes_ports(nodes: Hosts, outside: WireHost) -> None:
    create(nodes[0], "blue", "--subnet", "10.61.0.0/24")
    words = ("--mode", "global", "--publish", "mode=host,target=80,published=8080")
    serve(nodes[0], "web", "blue", *words)
    running(nodes, "web", 2)
    for host in nodes:
        wait_for("the port answers", lambda host=host: outside.ask("http", host.address, 8080, "/"))
        with outside.answering("tcp", 9000):
            seen = host.ask("tcp", outside.address, 9000, entering=host.network_of(tasks(host, "web")[0]))
        assert seen == host.address


@pytest.mark.parametrize("what", ["plugin", "engine"])
def test_what_runs_goes_on_when_one_starts_again(nodes: Hosts, what: str) -> None:
    create(nodes[0], "blue", "--subnet", "10.61.0.0/24")
    serve(nodes[0], "web", "blue")
    running(nodes, "web")
    for host in nodes:
        if what == "plugin":
            host.plugins["pynet"].kill()
            host.plugins["pynet"].start()
        else:
            host.engine.stop()
            host.ensure_running()
    places = running(nodes, "web")
    wait_for("all reach all", lambda: all_reach_all(nodes, "web", set(places)), 30)


def test_a_node_that_leaves_gets_nothing_any_more(nodes: Hosts) -> None:
    manager, worker = nodes
    create(manager, "blue", "--subnet", "10.61.0.0/24")
    serve(manager, "web", "blue")
    running(nodes, "web")
    device = next(line.split()[1].rstrip(":") for line in ours(manager) if ": pnx" in line)

    def told() -> bool:
        # What the device has learnt is forgotten with time.
        everybody = f"00:00:00:00:00:00 dst {worker.address} "
        return everybody in manager.run("bridge", "fdb", "show", "dev", device)

    assert told()
    worker.docker("swarm", "leave")
    wait_for("the worker is forgotten", lambda: not told(), 30)
    token = manager.docker("swarm", "join-token", "-q", "worker")
    worker.docker("swarm", "join", "--token", token, f"{manager.address}:2377")
    wait_for("the worker is known", told, 30)
