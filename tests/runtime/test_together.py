"""pyrun with the real pynet and pyvol, by the docker CLI: two containers that talk, a port, data that stays."""

import pytest

from tests.runtime.machine import Machine
from tests.runtime.real_plugins import plugins
from tests.runtime.test_containers import NO_NETWORK
from tests.runtime.test_recovery import leaves_nothing

__all__ = ["plugins"]
WEB = ("httpd", "-f", "-p", "80", "-h", "/www")


@pytest.mark.usefixtures("plugins")
def test_two_containers_a_port_and_a_volume(machine: Machine) -> None:
    machine.docker("run", "-d", "--name", "web", "--network", "front", "-p", "8080:80", "-v", "kept:/seed", "lab", *WEB)
    talk = machine.docker("run", "--rm", "--network", "front", "--network-alias", "client", "-v", "kept:/data", "lab",
                          "sh", "-c", "wget -qO- http://web/; cat /data/greeting; echo more > /data/more")  # fmt: skip
    assert talk == "lab\nfrom the image"
    assert machine.namespace.run("curl", "-s", "http://127.0.0.1:8080/") == "lab\n"
    assert "0.0.0.0:8080" in machine.docker("port", "web", "80")
    assert "0.0.0.0:8080->80/tcp" in machine.docker("ps", "--format", "{{.Ports}}")
    address = machine.docker("inspect", "-f", "{{.NetworkSettings.Networks.front.IPAddress}}", "web")
    assert address.startswith("10.77.0.")
    machine.daemon.kill()
    assert machine.namespace.run("curl", "-s", "http://127.0.0.1:8080/") == "lab\n"
    machine.daemon.start()
    assert machine.docker("run", "--rm", "--network", "front", "lab", "wget", "-qO-", "http://web/") == "lab"
    assert machine.docker("inspect", "-f", "{{.NetworkSettings.Networks.front.IPAddress}}", "web") == address
    assert machine.try_docker("network", "rm", "front").returncode == 1
    assert machine.try_docker("volume", "rm", "kept").returncode == 1
    machine.docker("rm", "-f", "web")
    assert machine.namespace.try_run("curl", "-s", "-m", "2", "http://127.0.0.1:8080/").returncode != 0
    machine.docker("create", "--name", "holder", *NO_NETWORK, "-v", "kept:/data", "lab", "true")
    inherited = (
        "--volumes-from",
        "holder:ro",
        "lab",
        "sh",
        "-c",
        "cat /data/more; touch /data/x 2>/dev/null || echo ro",
    )
    assert machine.docker("run", "--rm", *NO_NETWORK, *inherited) == "more\nro"
    machine.docker("rm", "holder")
    leaves_nothing(machine)


@pytest.mark.usefixtures("plugins")
def test_networks_are_joined_and_left_while_it_runs(machine: Machine) -> None:
    machine.docker("network", "create", "-d", "pynet", "--subnet", "10.78.0.0/24", "back")
    machine.docker("run", "-d", "--name", "one", "--network", "front", "lab", *WEB)
    machine.docker("network", "connect", "--alias", "other", "back", "one")
    assert machine.docker("run", "--rm", "--network", "back", "lab", "wget", "-qO-", "http://other/") == "lab"
    machine.docker("restart", "-t", "0", "one")
    assert machine.docker("run", "--rm", "--network", "back", "lab", "wget", "-qO-", "http://other/") == "lab"
    machine.docker("network", "disconnect", "front", "one")
    assert machine.docker("exec", "one", "ip", "-4", "-o", "addr", "show").count("inet 10.7") == 1
    machine.docker("rm", "-f", "one")
    machine.docker("network", "rm", "back")
    leaves_nothing(machine)
