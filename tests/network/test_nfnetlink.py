"""Set and map elements over nfnetlink, read back by the nft program where that is the question."""

import json
import statistics
import struct
import subprocess
import threading
import time

import pytest

from netplugin.kernel.firewall.nfnetlink import Batch, Element, Nfnetlink, Verdict, concat, ifname
from pluginkit.errors import KernelError

pytestmark = pytest.mark.usefixtures("netns")

TABLES = """
table ip t {
    set plain { type ether_addr; }
    map ports { type inet_proto . inet_service : ipv4_addr . inet_service; }
    map ranges { type inet_proto . inet_service : ipv4_addr; flags interval; }
    chain here { }
    map ways { type ifname : verdict; }
}
table bridge t {
    set macs { type ifname . ether_addr; }
}
table inet t {
    set plain { type inet_service; }
}
"""
MAC = bytes.fromhex("02420a090002")


def nft(*words, text=None):
    return subprocess.run(["nft", *words], input=text, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def tables(netns):
    nft("-f", "-", text=TABLES)


@pytest.fixture
def nfnetlink(tables):
    nfnetlink = Nfnetlink()
    yield nfnetlink
    nfnetlink.close()


def port(number, data=None):
    key = concat(b"\x06", struct.pack(">H", number))
    return Element(key, data=concat(bytes([10, 0, 0, 2]), struct.pack(">H", data)) if data else None)


def ports(first, last, host):
    key, key_end = (concat(b"\x06", struct.pack(">H", number)) for number in (first, last))
    return Element(key, key_end, bytes([10, 0, 0, host]))


def in_nft(family, kind, name):
    listing = json.loads(nft("-j", "list", kind, family, "t", name))["nftables"]
    return next(entry[kind] for entry in listing if kind in entry).get("elem", [])


def test_a_table_is_there_in_its_own_family(nfnetlink):
    assert [nfnetlink.has_table(family, "t") for family in ("ip", "bridge", "inet", "ip6", "netdev")] == [
        *[True] * 3, *[False] * 2,
    ]  # fmt: skip
    assert not nfnetlink.has_table("ip", "other")
    nft("delete", "table", "ip", "t")
    assert not nfnetlink.has_table("ip", "t")


def test_a_plain_key(nfnetlink):
    nfnetlink.add("ip", "t", "plain", [Element(MAC)])
    assert in_nft("ip", "set", "plain") == ["02:42:0a:09:00:02"]
    assert nfnetlink.elements("ip", "t", "plain") == [Element(MAC)]
    nfnetlink.delete("ip", "t", "plain", [Element(MAC)])
    assert in_nft("ip", "set", "plain") == []


def test_a_concatenation_in_the_bridge_family(nfnetlink):
    element = Element(concat(ifname("pnve1e2e3e4"), MAC))
    nfnetlink.add("bridge", "t", "macs", [element])
    assert in_nft("bridge", "set", "macs") == [{"concat": ["pnve1e2e3e4", "02:42:0a:09:00:02"]}]
    assert nfnetlink.elements("bridge", "t", "macs") == [element]


def test_another_family_has_other_sets(nfnetlink):
    nfnetlink.add("inet", "t", "plain", [Element(struct.pack(">H", 80))])
    assert in_nft("inet", "set", "plain") == [80]
    assert in_nft("ip", "set", "plain") == []


def test_a_map_answers_an_address_and_a_port(nfnetlink):
    nfnetlink.add("ip", "t", "ports", [port(8080, 80)])
    assert in_nft("ip", "map", "ports") == [[{"concat": ["tcp", 8080]}, {"concat": ["10.0.0.2", 80]}]]
    assert nfnetlink.elements("ip", "t", "ports") == [port(8080, 80)]


def test_a_range_is_one_element(nfnetlink):
    nfnetlink.add("ip", "t", "ranges", [ports(20000, 29999, 2), ports(80, 80, 3)])
    assert [{"concat": ["tcp", {"range": [20000, 29999]}]}, "10.0.0.2"] in in_nft("ip", "map", "ranges")
    found = nfnetlink.elements("ip", "t", "ranges")
    assert sorted(found, key=lambda element: element.key) == [ports(80, 80, 3), ports(20000, 29999, 2)]
    nfnetlink.delete("ip", "t", "ranges", [ports(20000, 29999, 2)])
    assert nfnetlink.elements("ip", "t", "ranges") == [ports(80, 80, 3)]


def test_a_map_answers_verdicts(nfnetlink):
    want = [
        Element(ifname("pn-1"), data=Verdict("jump", "here")),
        Element(ifname("pn-2"), data=Verdict("goto", "here")),
        *(Element(ifname(code), data=Verdict(code)) for code in ("accept", "drop", "return", "continue")),
    ]
    nfnetlink.add("ip", "t", "ways", want)
    assert ["pn-1", {"jump": {"target": "here"}}] in in_nft("ip", "map", "ways")
    assert ["drop", {"drop": None}] in in_nft("ip", "map", "ways")
    assert sorted(nfnetlink.elements("ip", "t", "ways"), key=str) == sorted(want, key=str)


def test_to_add_twice_is_to_add_once(nfnetlink):
    nfnetlink.add("ip", "t", "ports", [port(8080, 80)])
    nfnetlink.add("ip", "t", "ports", [port(8080, 80), port(8081, 81)])
    assert len(nfnetlink.elements("ip", "t", "ports")) == 2


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("ports", port(8080, 80), port(8080, 81)), ("ranges", ports(20000, 29999, 2), ports(20000, 29999, 3))],
)
def test_a_batch_gives_a_key_other_data(nfnetlink, name, old, new):
    nfnetlink.add("ip", "t", name, [old])
    with pytest.raises(KernelError, match=f"cannot add to set ip t {name}:"):
        nfnetlink.add("ip", "t", name, [new])
    batch = Batch()
    batch.delete("ip", "t", name, [old])
    batch.add("ip", "t", name, [new])
    nfnetlink.commit(batch)
    assert nfnetlink.elements("ip", "t", name) == [new]


def test_what_is_not_there_is_deleted_without_an_error(nfnetlink):
    nfnetlink.add("ip", "t", "ports", [port(1, 1), port(2, 2), port(3, 3)])
    nfnetlink.delete("ip", "t", "ports", [port(9), port(1), port(8), port(3), port(7)])
    assert nfnetlink.elements("ip", "t", "ports") == [port(2, 2)]
    nfnetlink.delete("ip", "t", "no_such_set", [port(1)])
    nfnetlink.delete("ip", "no_such_table", "ports", [port(1)])


def test_several_sets_change_together_or_not_at_all(nfnetlink):
    nfnetlink.add("ip", "t", "plain", [Element(MAC)])
    batch = Batch()
    batch.delete("ip", "t", "plain", [Element(MAC), Element(bytes(6))])
    batch.add("bridge", "t", "macs", [Element(concat(ifname("a"), MAC))])
    batch.add("ip", "t", "no_such_set", [port(1)])
    with pytest.raises(KernelError, match=r"cannot add to set ip t no_such_set: .*ENOENT.*does not exist"):
        nfnetlink.commit(batch)
    assert nfnetlink.elements("ip", "t", "plain") == [Element(MAC)]
    assert nfnetlink.elements("bridge", "t", "macs") == []
    batch.messages.pop()
    nfnetlink.commit(batch)
    assert nfnetlink.elements("ip", "t", "plain") == []
    assert len(nfnetlink.elements("bridge", "t", "macs")) == 1


def test_an_empty_batch_is_no_request(nfnetlink):
    nfnetlink.commit(Batch())
    nfnetlink.add("ip", "no_such_table", "ports", [])


def test_a_table_is_deleted_with_all_in_it(nfnetlink):
    nfnetlink.add("ip", "t", "ports", [port(1, 1)])
    batch = Batch()
    batch.delete_table("ip", "t")
    batch.delete_table("ip6", "never_made")
    nfnetlink.commit(batch)
    assert "table ip t" not in nft("list", "tables")
    assert "table bridge t" in nft("list", "tables")


def test_a_wrong_key_is_refused_and_the_socket_goes_on(nfnetlink):
    with pytest.raises(KernelError, match="cannot add to set ip t plain: Invalid argument"):
        nfnetlink.add("ip", "t", "plain", [Element(b"four")])
    nfnetlink.add("ip", "t", "plain", [Element(MAC)])
    assert nfnetlink.elements("ip", "t", "plain") == [Element(MAC)]


def test_a_set_that_is_not_there_has_no_elements(nfnetlink):
    assert nfnetlink.elements("ip", "t", "no_such_set") == []
    assert nfnetlink.elements("ip6", "t", "ports") == []


def test_ten_thousand_elements_come_and_go_in_a_few_batches(nfnetlink):
    everything = [port(number, number) for number in range(1, 10001)]
    for start in range(0, 10000, 4000):
        nfnetlink.add("ip", "t", "ports", everything[start : start + 4000])
    assert sorted(nfnetlink.elements("ip", "t", "ports"), key=lambda element: element.key) == everything
    nfnetlink.delete("ip", "t", "ports", everything[::2])
    assert len(nfnetlink.elements("ip", "t", "ports")) == 5000
    # Every second one is refused, one by one, before the rest goes.
    nfnetlink.delete("ip", "t", "ports", everything)
    assert nfnetlink.elements("ip", "t", "ports") == []


def test_one_more_element_costs_what_it_did_in_an_empty_set(nfnetlink):
    def median_s():
        times = []
        for number in range(40000, 40200):
            start = time.perf_counter()
            nfnetlink.add("ip", "t", "ports", [port(number, number)])
            nfnetlink.delete("ip", "t", "ports", [port(number)])
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    empty = median_s()
    nfnetlink.add("ip", "t", "ports", [port(number, number) for number in range(1, 30001)])
    # A cost that grew with the set would be some thousand times as high.
    assert median_s() < 10 * empty


def test_threads_take_turns(nfnetlink):
    def churn(first):
        for number in range(first, first + 200):
            nfnetlink.add("ip", "t", "ports", [port(number, number)])
            nfnetlink.delete("ip", "t", "ports", [port(number - 1)])

    threads = [threading.Thread(target=churn, args=(first,)) for first in (1000, 2000, 3000, 4000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = {struct.unpack(">4xHxx", element.key)[0] for element in nfnetlink.elements("ip", "t", "ports")}
    assert left == {1199, 2199, 3199, 4199}
