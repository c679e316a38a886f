"""The run is what its options say: otherwise a green one would prove something else."""

from pathlib import Path

import pytest

from integration.lab.host import Host


@pytest.mark.everywhere
def test_the_engine_is_the_one_that_was_asked_for(host: Host) -> None:
    version = host.docker("version", "--format", "{{.Server.Version}}")
    assert f"docker-{version}".startswith(f"{host.kind.name}.")


@pytest.mark.everywhere
def test_pynet_works_with_the_firewall_that_was_asked_for(host: Host) -> None:
    if "pynet" not in host.plugins or host.drivers.firewall == "auto":
        return
    host.docker("network", "create", "-d", host.drivers.network, "n1")
    # A chain of iptables is there with both: dockerd's own policy must be answered where it stands.
    assert ("pynet" in host.run("nft", "list", "tables")) == (host.drivers.firewall == "nftables")


@pytest.mark.everywhere
def test_the_plugins_have_the_rights_that_were_asked_for(host: Host) -> None:
    for daemon in host.plugins.values():
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        assert ("NoNewPrivs:\t1" in status) == host.drivers.confined
