"""`pynet cluster …` beside a running pynet and another host."""

import json
import subprocess
from dataclasses import replace
from ipaddress import ip_address

import pytest
from typer.testing import CliRunner

from netplugin.cli import app as cli
from netplugin.cluster import keys
from netplugin.cluster.directory import Directory
from netplugin.cluster.etcd import Delete, Put
from pluginkit import admin
from tests.cluster.test_directory import BLUE, endpoint
from tests.cluster.test_plugin import BRIDGE, DEVICE, KNOWN, MAC, neighbours, other, plugin, start, wait_for, wire
from tests.network.samples import NETWORK_ID

__all__ = ["other", "plugin", "start", "wire"]


@pytest.fixture
def run(server):
    """Call it with the words after `pynet cluster`; returns exit code and what was printed."""

    def run(*words):
        done = CliRunner().invoke(cli, ["cluster", *words, "--cluster", f"etcd://127.0.0.1:{server.port}"])
        return done.exit_code, done.output.splitlines()

    return run


def test_hosts_and_networks(plugin, other, run):
    wait_for(neighbours, KNOWN)
    code, lines = run("hosts")
    assert code == 0
    assert lines[0].split() == ["NAME", "VTEP", "STATE", "NETWORKS", "ENDPOINTS", "ID"]
    assert ["host-other", "10.90.0.12", "alive", "1", "1", "other"] in [line.split() for line in lines]
    code, lines = run("status")
    assert (code, [line.split() for line in lines[1:]]) == (
        0,
        [["blue", "5244569", "14789", "1450", "2", "1", "10.9.0.0/24", "fd09::/64"]],
    )


def test_a_host_that_will_not_come_back_is_forgotten_and_one_that_is_alive_is_not(plugin, other, run, etcd, server):
    wait_for(neighbours, KNOWN)
    code, said = run("forget", "host-other")
    assert (code, said[0].startswith("pynet: cannot forget host host-other: it is alive")) == (1, True)
    assert run("forget", "nobody")[0] == 1
    etcd.transact([], [Delete(keys.alive_key("other"))])
    assert run("forget", "host-other") == (0, ["forgot host-other: 1 networks, 1 endpoints"])
    wait_for(neighbours, [])
    # It may come back: what it gave is its own.
    assert [key for key in server.all_keys() if "/address/" in key or "/host/other" in key] == [
        "/pynet/v1/address/blue/10.9.0.5",
        "/pynet/v1/address/blue/fd09::5",
        "/pynet/v1/host/other",
    ]
    other.register()
    other.claim(other.join(replace(BLUE, id="f" * 64)), endpoint(5))
    wait_for(neighbours, KNOWN)
    etcd.transact([], [Delete(keys.alive_key("other"))])
    assert run("forget", "--off", "host-other")[0] == 0
    wait_for(neighbours, [])
    assert not [key for key in server.all_keys() if "other" in key or "/address/" in key]
    plugin.engine.ok("DeleteNetwork", NetworkID=NETWORK_ID)
    wait_for(lambda: {key.split("/")[3] for key in server.all_keys()}, {"host", "alive"})


def test_two_hosts_of_one_name_are_told_apart_by_their_ids(etcd, run):
    for host in ("a", "b"):
        etcd.transact([], [Put(keys.host_key(host), b'{"name":"same","vtep":"10.0.0.1","epoch":1}')])
    code, said = run("forget", "same")
    assert (code, said[0].endswith("say which by its ID: a, b")) == (1, True)
    assert run("forget", "--off", "b")[0] == 0


def test_the_last_host_that_is_forgotten_takes_the_network_with_it(etcd, server, run):
    alone = Directory(etcd, "alone", "alone", ip_address("10.90.0.12"), 1500, lambda _to: None)
    alone.register()
    alone.claim(alone.join(BLUE), endpoint(5))
    etcd.transact([], [Delete(keys.alive_key("alone"))])
    assert run("forget", "--off", "alone")[0] == 0
    assert server.all_keys() == []


FALSE = {
    "missing entry": (
        f"bridge fdb del {MAC} dev {DEVICE} dst 10.90.0.12 self",
        f"blue: missing: entry {MAC} to 10.90.0.12",
    ),
    "strange entry": (
        f"bridge fdb append 00:00:00:00:00:00 dev {DEVICE} dst 10.90.0.66",
        "blue: not in etcd: entry 00:00:00:00:00:00 to 10.90.0.66",
    ),
    "missing neighbour": (f"ip neigh del 10.9.0.5 dev {BRIDGE}", "blue: missing: neighbour 10.9.0.5"),
}


# To everybody there is an entry, too.
AGREED = (0, ["as etcd says: blue (entries: 2, neighbours: 2)"])


def test_where_all_is_well_it_says_what_was_compared(plugin, other, run):
    wait_for(neighbours, KNOWN)
    assert run("verify") == AGREED
    code, lines = run("verify", "--json")
    agreed = {"networks": ["blue"], "entries": 2, "neighbours": 2, "differences": []}
    assert (code, json.loads("".join(lines))) == (0, agreed)
    subprocess.run(["sh", "-ec", FALSE["missing entry"][0]], check=True)
    code, lines = run("verify", "--json")
    [difference] = json.loads("".join(lines))["differences"]
    assert (code, difference.startswith(FALSE["missing entry"][1])) == (1, True)


def test_a_host_without_networks_of_the_cluster_has_nothing_to_compare(netns, run):
    assert run("verify") == (0, ["nothing to compare: this host is on no network of the cluster"])


@pytest.mark.parametrize(("command", "words"), FALSE.values(), ids=FALSE)
def test_what_differs_is_told_and_gone_after_a_reconcile(plugin, other, run, command, words):
    wait_for(neighbours, KNOWN)
    assert run("verify") == AGREED
    subprocess.run(["sh", "-ec", command], check=True)
    code, lines = run("verify")
    assert (code, len(lines), lines[0].startswith(words)) == (1, 1, True)
    plugin.reconcile()
    assert run("verify") == AGREED


def test_what_differs_is_fixed_by_the_pynet_that_runs(plugin, other, run, state_dir):
    wait_for(neighbours, KNOWN)
    subprocess.run(["sh", "-ec", FALSE["missing entry"][0]], check=True)
    assert run("verify", "--fix", "--state-dir", str(state_dir))[0] == 1
    admin.listen(state_dir, plugin.admin)
    code, lines = run("verify", "--fix", "--state-dir", str(state_dir))
    assert (code, len(lines), lines[-1]) == (0, 2, "put right")
    assert run("verify", "--fix") == AGREED
    # What is false in the records, because a change was not heard, is read again.
    place = f"{NETWORK_ID}/{endpoint(5).id}"
    plugin._driver._reconciler.transition(plugin._driver._plans.remote_endpoints, place, None)
    assert run("verify")[0] == 1
    assert run("verify", "--fix", "--state-dir", str(state_dir))[1][-1] == "put right"
    wait_for(neighbours, KNOWN)
