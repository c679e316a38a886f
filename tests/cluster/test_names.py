"""Names of containers in etcd: told, heard, and told again when etcd was away. Whom the engine calls how is given."""

import json
import socket
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_address

import pytest
from dnslib import RCODE, DNSRecord

from netplugin.cluster.directory import Directory
from netplugin.machine import Way
from tests.cluster.test_directory import BLUE, endpoint
from tests.cluster.test_plugin import OTHER, start, wait_for, wire
from tests.network.samples import ENDPOINT_ID, NETWORK_ID

__all__ = ["start", "wire"]

KEY = f"/pynet/v1/at/blue/endpoint/{ENDPOINT_ID}"


@pytest.fixture
def engine(tmp_path):
    """A socket on which nobody answers: here the test says what the engine would."""
    path = tmp_path / "engine.sock"
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(path))
        yield path


@pytest.fixture
def plugin(start, engine):
    plugin = start((engine,))
    wait_for(lambda: plugin.engine.create_network(dual=True, type="overlay", name="blue", dns="true")[0], 200)
    plugin.engine.create_endpoint(address="10.9.0.9/24")
    plugin.engine.join()
    return plugin


def told(server):
    return json.loads(server.ctl("get", "--print-value-only", KEY) or "{}").get("names")


def asked(name):
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.settimeout(5)
        client.connect(("10.9.0.1", 53))
        client.send(DNSRecord.question(name).pack())
        reply = DNSRecord.parse(client.recv(1500))
        return RCODE[reply.header.rcode], [str(record.rdata) for record in reply.rr]


def test_what_is_called_here_is_known_everywhere_until_it_ends(plugin, server):
    assert set(plugin._names.joined()) == {ENDPOINT_ID}
    assert told(server) == []
    plugin._names.name(ENDPOINT_ID, ["Web", "db", "no name", "db"])
    assert told(server) == ["web", "db"]
    assert asked("db.blue") == ("NOERROR", ["10.9.0.9"])
    plugin._names.name(ENDPOINT_ID, ["other"])
    assert (asked("db"), asked("other")) == (("NXDOMAIN", []), ("NOERROR", ["10.9.0.9"]))
    plugin.engine.stop()
    assert (asked("other"), told(server)) == (("NXDOMAIN", []), None)
    plugin._names.name(ENDPOINT_ID, ["late"])
    assert (asked("late"), told(server)) == (("NXDOMAIN", []), None)


def test_what_another_host_calls_its_own_is_answered_here(plugin, etcd):
    own = ip_address(OTHER)
    other = Directory(etcd, "other", "host-other", own, 1500, lambda to: Way(own, 1500, to == own))
    other.register()
    network = other.join(replace(BLUE, id="f" * 64))
    for names in (("bob",), ("bill", "db"), ()):
        other.claim(network, replace(endpoint(5), names=names))
        wait_for(lambda n=names: [asked(name)[0] == "NOERROR" for name in n], [True] * len(names))
    wait_for(lambda: {asked(name)[0] for name in ("bob", "bill", "db")}, {"NXDOMAIN"})
    other.claim(network, replace(endpoint(5), names=("bob",)))
    wait_for(lambda: asked("bob"), ("NOERROR", ["10.9.0.5"]))
    other.release("blue", endpoint(5).id)
    wait_for(lambda: asked("bob"), ("NXDOMAIN", []), 1)


def test_a_name_that_was_heard_while_etcd_was_away_is_told_later(plugin, server):
    server.stop()
    plugin._names.name(ENDPOINT_ID, ["web"])
    assert asked("web") == ("NOERROR", ["10.9.0.9"])
    server.start()
    wait_for(lambda: told(server), ["web"])


def test_a_pynet_that_starts_again_answers_as_before(plugin, start, engine):
    plugin._names.name(ENDPOINT_ID, ["web"])
    plugin.close()
    with closing(start((engine,))):
        assert asked("web") == ("NOERROR", ["10.9.0.9"])


def test_without_an_engine_to_ask_there_are_no_names(start):
    plugin = start()
    wait_for(lambda: plugin.engine.create_network(type="overlay", name="blue")[0], 200)
    plugin.engine.ok("DeleteNetwork", NetworkID=NETWORK_ID)
    status, answer = plugin.engine.create_network(type="overlay", name="blue", dns="true")
    assert status == 400
    assert "finds no socket of it; set PYNET_ENGINES" in answer["Err"]
