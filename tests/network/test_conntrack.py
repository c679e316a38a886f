"""Flows that are forgotten, and those that are not."""

import socket
import subprocess
from ipaddress import ip_address

import pytest

from netplugin.kernel.ports.conntrack import Conntrack

pytestmark = pytest.mark.usefixtures("netns")


def send(port, address="127.0.0.1"):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", (address, port))


def tracked(family="ipv4"):
    """Return the original destinations, as (address, port), of the UDP flows."""
    text = subprocess.run(["conntrack", "-L", "-p", "udp", "-f", family], capture_output=True, text=True).stdout
    fields = [dict(word.split("=") for word in reversed(line.split()) if "=" in word) for line in text.splitlines()]
    return {(flow["dst"], int(flow["dport"])) for flow in fields}


@pytest.fixture(autouse=True)
def tracking(netns):
    """The kernel tracks connections only where something translates."""
    for program in ("iptables", "ip6tables"):
        dnat = ["-p", "udp", "--dport", "7", "-j", "REDIRECT", "--to-ports", "9"]
        subprocess.run([program, "-t", "nat", "-A", "OUTPUT", *dnat], check=True)


def test_flows_to_a_port_are_forgotten_and_others_are_not():
    for port in (5353, 5354):
        send(port)
    Conntrack().forget("udp", ip_address("0.0.0.0"), 5353, 1)
    assert tracked() == {("127.0.0.1", 5354)}


def test_one_address_is_not_another():
    for address in ("127.0.0.1", "127.0.0.2"):
        send(5353, address)
    Conntrack().forget("udp", ip_address("127.0.0.2"), 5353, 1)
    assert tracked() == {("127.0.0.1", 5353)}


def test_ipv6():
    send(5353, "::1")
    send(5353)
    Conntrack().forget("udp", ip_address("::"), 5353, 1)
    assert tracked("ipv6") == set()
    assert tracked() == {("127.0.0.1", 5353)}


@pytest.mark.parametrize("count", [8, 9, 10000])
def test_a_run_of_any_length(count):
    for port in (19999, 20000, 20007, 20000 + count):
        send(port)
    Conntrack().forget("udp", ip_address("0.0.0.0"), 20000, count)
    assert tracked() == {("127.0.0.1", 19999), ("127.0.0.1", 20000 + count)}


def test_nothing_to_forget_is_no_error():
    Conntrack().forget("sctp", ip_address("10.1.2.3"), 1, 60000)
