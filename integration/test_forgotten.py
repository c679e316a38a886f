"""A network that the engine has removed although the plugin never heard of it."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.namespace import children


def test_a_network_whose_removal_was_lost_is_collected(host: Host) -> None:
    for number in (1, 2):
        host.docker("network", "create", "-d", "pynet", "--subnet", f"10.6{number}.0.0/24", f"n{number}")
    kept = host.docker("network", "inspect", "--format", "{{.Id}}", "n2")[:8]
    pynet = host.plugins["pynet"]
    for worker in children(pynet.pid):
        os.kill(worker, signal.SIGSTOP)
    with ThreadPoolExecutor() as pool:
        removing = pool.submit(host.docker, "network", "rm", "n1")
        time.sleep(1)  # the request waits in the socket's queue, and dies there
        pynet.kill()
        pynet.start()
        removing.result()
    assert "n1" not in host.docker("network", "ls", "--format", "{{.Name}}").split()

    def bridges() -> list[str]:
        links = host.run("ip", "-o", "link", "show", "type", "bridge").splitlines()
        return [name for line in links if (name := line.split()[1].rstrip(":")).startswith("pn-")]

    wait_for("only the other network is left", lambda: bridges() == [f"pn-{kept}"], 30)
