"""What passes probes on to other hosts, in a real kernel; tests/conformance sends probes."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from netplugin.kernel.firewall.nfnetlink import Nfnetlink
from netplugin.kernel.overlay.probes import TABLE, ProbeRelays
from netplugin.resources import OverlayProbes
from pluginkit.errors import NotFound
from tests.network.sandboxes import command

WANT = OverlayProbes("pnx1a2b3c4d", "pn-1a2b3c4d")
OTHER = OverlayProbes("pnx00000000", "pn-00000000")


@pytest.fixture
def nfnetlink(netns: None) -> Iterator[Nfnetlink]:
    with closing(Nfnetlink()) as opened:
        yield opened


@pytest.fixture
def relays(nfnetlink: Nfnetlink) -> ProbeRelays:
    for want in (WANT, OTHER):
        command("ip", "link", "add", want.bridge, "type", "bridge")
        command("ip", "link", "add", want.link, "type", "bridge")
    return ProbeRelays(nfnetlink)


def kernel_view() -> str:
    return command("nft", "-s", "list", "ruleset")


def test_twice_is_once_and_nothing_is_left(relays: ProbeRelays, nfnetlink: Nfnetlink) -> None:
    relays.ensure(WANT)
    once = kernel_view()
    relays.ensure(WANT)
    ProbeRelays(nfnetlink).ensure(WANT)
    assert kernel_view() == once
    assert f'device "{WANT.bridge}"' in once
    assert f'dup to "{WANT.link}"' in once
    assert [have.key for have in relays.owned()] == [WANT.key]
    for _ in range(2):
        relays.remove(WANT)
        assert kernel_view() == ""
    assert list(relays.owned()) == []


def test_another_bridge_s_stays(relays: ProbeRelays) -> None:
    relays.ensure(OTHER)
    only = kernel_view()
    relays.ensure(WANT)
    relays.remove(WANT)
    assert kernel_view() == only


DRIFTS = {
    "table deleted": f"nft delete table netdev {TABLE}",
    "rules flushed": f"nft flush table netdev {TABLE}",
    "chain deleted": f"nft flush chain netdev {TABLE} {WANT.link}; nft delete chain netdev {TABLE} {WANT.link}",
    "device made again": f"ip link del {WANT.link}; ip link add {WANT.link} type bridge",
    "bridge made again": f"ip link del {WANT.bridge}; ip link add {WANT.bridge} type bridge",
}


@pytest.mark.parametrize("drift", DRIFTS.values(), ids=DRIFTS)
def test_drift_is_put_right(relays: ProbeRelays, drift: str) -> None:
    relays.ensure(WANT)
    right = kernel_view()
    command("sh", "-ec", drift)
    relays.owned()
    relays.ensure(WANT)
    assert kernel_view() == right


def test_what_went_with_its_bridge_leaves_nothing(relays: ProbeRelays) -> None:
    relays.ensure(WANT)
    command("ip", "link", "del", WANT.bridge)
    relays.remove(WANT)
    assert kernel_view() == ""


def test_without_a_bridge_or_a_device_it_says_so(relays: ProbeRelays) -> None:
    for want in (replace(WANT, link="pnx11111111"), replace(WANT, bridge="nobodys")):
        with pytest.raises(NotFound, match=f"cannot pass probes on by {want.link}"):
            relays.ensure(want)
