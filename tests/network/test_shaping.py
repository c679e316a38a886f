"""Rates of endpoints and networks, measured with real flows between namespaces."""

import socket
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from netplugin.kernel.traffic.redirects import Redirects
from netplugin.kernel.traffic.shaping import Shapers
from netplugin.resources import Redirect, Shaper, endpoint_ifb, network_ifb
from pluginkit.errors import Conflict, NotFound
from tests.network.sandboxes import BRIDGE, GATEWAY4, command

pytestmark = pytest.mark.usefixtures("netns")

MBIT = 1_000_000
# What a full frame of 1514 bytes carries of a TCP stream.
PAYLOAD = 1448 / 1514
WANT = Shaper("pnv00000002", "pni00000002", 8 * MBIT, 12 * MBIT)
WANT_NETWORK = Shaper(BRIDGE, "pno1a2b3c4d", 8 * MBIT, 12 * MBIT)
OF_NETWORK = [Redirect(f"pnv0000000{number}", WANT_NETWORK.ifb, BRIDGE) for number in (2, 3, 4)]


@pytest.fixture
def shapers(netlink):
    return Shapers(netlink)


@pytest.fixture
def shape(netlink, shapers):
    """Return a function that ensures a shaper and what leads to its queue."""
    redirects = Redirects(netlink)

    def ensure(want):
        shapers.ensure(want)
        for redirect in OF_NETWORK if want.link == BRIDGE else [Redirect(want.link, want.ifb)]:
            redirects.ensure(redirect)

    return ensure


def kernel_view():
    """Return links, qdiscs and filters without what changes by itself."""
    links = [line.split(":", 1)[1].split(" state ")[0] for line in command("ip", "-o", "link").splitlines()]
    names = [link.split("@")[0].split(":")[0].strip() for link in links]
    filters = [command("tc", "filter", "show", "dev", name, "ingress") for name in names if name != "lo"]
    return sorted(links), sorted(command("tc", "qdisc", "show").splitlines()), filters


class Host:
    """The test's own namespace in the place of a container."""

    address4 = GATEWAY4

    def socket(self, *kind):
        opened = socket.socket(*kind)
        opened.settimeout(5)
        return opened


@contextmanager
def stream(sender, receiver):
    """Inside the block `sender` sends all it can by TCP; yield the socket on which it arrives."""
    with closing(receiver.socket(socket.AF_INET, socket.SOCK_STREAM)) as listener:
        listener.bind((receiver.address4, 0))
        listener.listen(1)
        with closing(sender.socket(socket.AF_INET, socket.SOCK_STREAM)) as out:
            out.connect(listener.getsockname())
            arriving, _ = listener.accept()
            arriving.settimeout(5)
            ended = threading.Event()
            thread = threading.Thread(target=send_until, args=(out, ended))
            thread.start()
            try:
                yield arriving
            finally:
                ended.set()
                arriving.close()
                thread.join()


def send_until(out, ended):
    try:
        while not ended.is_set():
            out.send(bytes(32768))
    except OSError:
        # The receiver has gone.
        return


def received_per_s(arriving, seconds):
    """Return the bits per second on the wire over about `seconds`, after the start of the stream has settled."""
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        arriving.recv(65536)
    start, count = time.monotonic(), 0
    while time.monotonic() < start + seconds:
        count += len(arriving.recv(65536))
    return count * 8 / (time.monotonic() - start) / PAYLOAD


def tcp_rate(sender, receiver, wanted=None):
    """Return a measured rate; measured again, if not as wanted, in case that others had the processors."""
    for _ in range(3):
        with stream(sender, receiver) as arriving:
            rate = received_per_s(arriving, 0.8)
        if wanted is None or rate == pytest.approx(wanted, rel=0.1):
            break
    return rate


def test_what_a_container_sends_and_receives_is_held_to_its_rates(shape, containers):
    shaped, other, _ = containers
    shape(WANT)
    assert tcp_rate(shaped, other, 8 * MBIT) == pytest.approx(8 * MBIT, rel=0.1)
    assert tcp_rate(other, shaped, 12 * MBIT) == pytest.approx(12 * MBIT, rel=0.1)


def test_other_endpoints_are_as_fast_as_before(shape, containers):
    shaped, other, third = containers
    shape(WANT)
    held = []
    with stream(shaped, third) as arriving:
        thread = threading.Thread(target=lambda: held.append(received_per_s(arriving, 0.8)))
        thread.start()
        assert tcp_rate(other, third) > 100 * MBIT
        thread.join()
    assert held[0] < 10 * MBIT


@contextmanager
def datagrams(sender, receiver):
    """Yield a function that sends one datagram, and a list of those that arrived, complete after the block."""
    arrived = []
    with (
        closing(receiver.socket(socket.AF_INET, socket.SOCK_DGRAM)) as into,
        closing(sender.socket(socket.AF_INET, socket.SOCK_DGRAM)) as out,
    ):
        into.bind((receiver.address4, 0))
        out.connect(into.getsockname())
        into.settimeout(0.5)
        thread = threading.Thread(target=receive_all, args=(into, arrived))
        thread.start()
        yield out.send, arrived
        thread.join()


def receive_all(into, arrived):
    try:
        while True:
            arrived.append(into.recv(2048))
    except TimeoutError:
        return


def test_datagrams_beyond_the_rate_are_dropped(shape, containers):
    shaped, other, _ = containers
    shape(WANT)
    with datagrams(shaped, other) as (send, arrived):
        start = time.monotonic()
        # Up to twice the rate: 4200 bytes in each pause of 2 ms.
        while time.monotonic() < start + 1:
            for _ in range(3):
                send(bytes(1400))
            time.sleep(0.002)
    # One second's worth, the burst and what was queued at the end.
    assert len(arrived) * 1442 * 8 < 10 * MBIT


def test_a_network_is_held_where_it_meets_the_world(shape, containers):
    one, other, _ = containers
    shape(WANT_NETWORK)
    assert tcp_rate(one, Host(), 8 * MBIT) == pytest.approx(8 * MBIT, rel=0.1)
    assert tcp_rate(Host(), other, 12 * MBIT) == pytest.approx(12 * MBIT, rel=0.1)


def test_what_endpoints_send_each_other_is_no_concern_of_their_network(shape, containers):
    one, other, _ = containers
    shape(WANT_NETWORK)
    assert tcp_rate(one, other) > 100 * MBIT


def test_endpoints_share_the_rate_of_their_network(shape, containers):
    one, other, _ = containers
    shape(WANT_NETWORK)
    with stream(one, Host()) as first, stream(other, Host()) as second:
        counts = []
        threads = [
            threading.Thread(target=lambda arriving=arriving: counts.append(received_per_s(arriving, 0.8)))
            for arriving in (first, second)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(counts) == 2
    # Without a common limit it would be at least twice the rate.
    assert 5 * MBIT < sum(counts) < 11 * MBIT


def test_a_rate_changes_in_place_and_no_packet_is_lost(shape, containers):
    shaped, other, _ = containers
    shape(WANT)
    # One datagram in two milliseconds: below every rate, so whatever is lost is lost to a change.
    with datagrams(shaped, other) as (send, arrived):
        for number in range(300):
            send(number.to_bytes(2, "big") + bytes(1000))
            if number % 10 == 0:
                shape(replace(WANT, egress_bits_per_s=(6 + number % 4) * MBIT))
            time.sleep(0.002)
    assert [int.from_bytes(datagram[:2], "big") for datagram in arrived] == list(range(300))
    shape(replace(WANT, egress_bits_per_s=4 * MBIT))
    assert tcp_rate(shaped, other, 4 * MBIT) == pytest.approx(4 * MBIT, rel=0.1)


def test_to_ensure_twice_is_to_ensure_once(shapers, containers):
    shapers.ensure(WANT)
    once = kernel_view()
    shapers.ensure(WANT)
    assert kernel_view() == once


@pytest.mark.parametrize(
    "drift",
    [
        ("ip", "link", "del", WANT.ifb),
        ("ip", "link", "set", WANT.ifb, "down"),
        ("ip", "link", "set", WANT.ifb, "alias", ""),
        ("tc", "qdisc", "del", "dev", WANT.link, "root"),
        ("tc", "qdisc", "del", "dev", WANT.ifb, "root"),
    ],
    ids=" ".join,
)
def test_drift_is_put_right(shape, containers, drift):
    shaped, other, _ = containers
    shape(WANT)
    command(*drift)
    shape(WANT)
    qdiscs = command("tc", "qdisc", "show")
    assert f"qdisc tbf 5059: dev {WANT.link} root refcnt 3 rate 12Mbit burst 15180b" in qdiscs
    assert f"qdisc tbf 5059: dev {WANT.ifb} root refcnt 2 rate 8Mbit burst 15179b" in qdiscs
    assert f"alias pynet shaper of {WANT.link}" in command("ip", "link", "show", WANT.ifb)
    shaped.run("ping", "-c1", "-W2", other.address4)


@pytest.mark.parametrize("want", [WANT, WANT_NETWORK], ids=["endpoint", "network"])
def test_what_is_removed_leaves_nothing_and_is_removed_again(shapers, containers, want):
    before = kernel_view()
    shapers.ensure(want)
    assert [have.key for have in shapers.owned()] == [want.key]
    shapers.remove(want)
    shapers.remove(want)
    assert kernel_view() == before
    assert shapers.owned() == []


def test_a_direction_without_a_rate_is_not_shaped(shapers, containers):
    before = kernel_view()
    shapers.ensure(replace(WANT, ingress_bits_per_s=None))
    assert f"tbf 5059: dev {WANT.link}" not in command("tc", "qdisc", "show")
    shapers.ensure(replace(WANT, egress_bits_per_s=None))
    assert WANT.ifb not in command("ip", "link")
    assert [have.key for have in shapers.owned()] == [WANT.key]
    shapers.ensure(replace(WANT, egress_bits_per_s=None, ingress_bits_per_s=None))
    assert kernel_view() == before


def test_orphans_are_found_and_removed(shapers, containers):
    before = kernel_view()
    shapers.ensure(WANT)
    shapers.ensure(WANT_NETWORK)
    command("ip", "link", "add", "pni99999999", "type", "ifb")
    command("ip", "link", "add", "pni88888888", "type", "ifb")
    command("ip", "link", "set", "pni88888888", "alias", "hands off")
    command("ip", "link", "del", WANT.link)
    assert {have.key for have in shapers.owned()} == {WANT.key, WANT_NETWORK.key, ("shaper", "")}
    for have in shapers.owned():
        shapers.remove(have)
    assert shapers.owned() == []
    assert "pni88888888" in command("ip", "link")
    command("ip", "link", "del", "pni88888888")
    assert [line for line in before[1] if WANT.link not in line] == kernel_view()[1]


def test_a_given_burst_is_used_but_never_smaller_than_a_frame(shapers, containers):
    shapers.ensure(replace(WANT, burst_bytes=64000))
    assert f"dev {WANT.ifb} root refcnt 2 rate 8Mbit burst 64000b" in command("tc", "qdisc", "show")
    shapers.ensure(replace(WANT, burst_bytes=100))
    assert f"dev {WANT.ifb} root refcnt 2 rate 8Mbit burst 3035b" in command("tc", "qdisc", "show")


def test_high_rates_get_ten_milliseconds_of_burst(shapers, containers):
    shapers.ensure(replace(WANT, egress_bits_per_s=1000 * MBIT, ingress_bits_per_s=100_000 * MBIT))
    qdiscs = command("tc", "qdisc", "show")
    assert f"dev {WANT.ifb} root refcnt 2 rate 1Gbit burst 1250000b lat 50ms" in qdiscs
    assert f"dev {WANT.link} root refcnt 3 rate 34359Mbit" in qdiscs


def test_a_link_that_is_gone_says_so(shapers):
    with pytest.raises(NotFound, match="cannot shape pnv00000002: the link is gone"):
        shapers.ensure(WANT)
    shapers.remove(WANT)


def test_a_qdisc_of_somebody_else_is_left_alone(shapers, containers):
    command("tc", "qdisc", "add", "dev", BRIDGE, "root", "handle", "1:", "htb")
    with pytest.raises(Conflict, match=f"cannot shape {BRIDGE}: it has a qdisc of somebody else"):
        shapers.ensure(WANT_NETWORK)
    shapers.remove(WANT_NETWORK)
    assert f"qdisc htb 1: dev {BRIDGE} root" in command("tc", "qdisc", "show")


def test_a_device_of_somebody_else_is_left_alone(shapers, containers):
    command("ip", "link", "add", WANT.ifb, "type", "bridge")
    with pytest.raises(Conflict, match=f"cannot create ifb {WANT.ifb}: a link of that name exists"):
        shapers.ensure(WANT)
    shapers.remove(WANT)
    assert WANT.ifb in command("ip", "link")


def test_names_are_derived_from_ids():
    assert endpoint_ifb("e1e2e3e4" * 8) == "pnie1e2e3e4"
    assert network_ifb("1a2b3c4d" * 8) == "pno1a2b3c4d"
