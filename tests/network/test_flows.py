"""Connections of containers, as the kernel tracks them and the administrator is told."""

import socket
import subprocess
from contextlib import closing
from ipaddress import IPv4Interface, ip_address

import pytest

from netplugin.admin.flows import MOST_READ, MOST_TOLD, told
from netplugin.kernel.ports.flows import tracked
from netplugin.machine import Flow
from tests.network.samples import ENDPOINT_ID, OTHER_ENDPOINT_ID, endpoint


@pytest.fixture
def tracking(netns):
    """The kernel tracks connections only where something translates."""
    for program, to in (("iptables", "127.0.0.1:9"), ("ip6tables", "[::1]:9")):
        dnat = ["-p", "tcp", "--dport", "7", "-j", "DNAT", "--to-destination", to]
        subprocess.run([program, "-t", "nat", "-A", "OUTPUT", *dnat], check=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.usefixtures("tracking")
def test_where_a_connection_goes_and_how_it_is(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with closing(socket.socket(family)) as server, closing(socket.socket(family)) as client:
        server.bind((address, 9))
        server.listen()
        client.connect((address, 7))
        [flow] = tracked()
        port = client.getsockname()[1]
        here = ip_address(address)
        assert flow == Flow("tcp", here, port, here, 7, here, 9, "established", flow.packets, flow.bytes)
        # As the program that everybody has for it says.
        listed = subprocess.run(["conntrack", "-L", "-f", f"ipv{here.version}"], capture_output=True, text=True).stdout
        assert f"sport={port} dport=7" in listed


@pytest.mark.usefixtures("tracking")
def test_datagrams_and_what_is_counted():
    subprocess.run(["sysctl", "-qw", "net.netfilter.nf_conntrack_acct=1"], check=True)
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        sender.sendto(b"x" * 100, ("127.0.0.1", 5353))
    [flow] = [flow for flow in tracked() if flow.protocol == "udp"]
    assert (flow.state, flow.packets, flow.bytes) == ("unanswered", 1, 128)


def test_only_containers_connections_are_told_the_largest_first():
    def flow(source, to, carried):
        return Flow("tcp", ip_address(source), 1, ip_address("192.0.2.1"), 80, ip_address(to), 80, "closed", 1, carried)

    flows = [
        flow("10.9.0.2", "192.0.2.1", 10),
        flow("192.0.2.9", "10.9.0.2", None),
        flow("192.0.2.9", "192.0.2.1", 99),
        flow("10.9.0.2", "10.9.0.3", 20),
    ]
    other = IPv4Interface("10.9.0.3/24")
    ends = [endpoint(), endpoint().__class__(OTHER_ENDPOINT_ID, "n", other, None, "", "", ())]
    answer = told(iter(flows), ends)
    assert [(each.SourceEndpoint, each.ToEndpoint, each.Bytes) for each in answer.Flows] == [
        (ENDPOINT_ID, OTHER_ENDPOINT_ID, 20),
        (ENDPOINT_ID, "", 10),
        ("", ENDPOINT_ID, None),
    ]
    assert (answer.More, answer.IsWhole) == (0, True)
    many = told((flows[0] for _ in range(MOST_READ + 1)), ends)
    assert (len(many.Flows), many.More, many.IsWhole) == (MOST_TOLD, MOST_READ - MOST_TOLD, False)
