"""Rules in a real network namespace, by iptables over nf_tables and by iptables-legacy."""

import subprocess
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from netplugin.firewall import base, endpoint_rules, network_rules
from netplugin.kernel.iptables import Iptables
from netplugin.records import PublishedPort
from pluginkit.errors import CommandError
from tests.network.samples import DNS_LOCAL, WEB_DUAL, endpoint, network

pytestmark = pytest.mark.usefixtures("netns", "variant")

BRIDGE = "pn-1a2b3c4d"
PORTS = (WEB_DUAL, DNS_LOCAL, PublishedPort("sctp", 7000, 7000, IPv4Address("10.0.0.7"), None))


@pytest.fixture(params=["nft", "legacy"])
def variant(request, tmp_path, monkeypatch):
    """`iptables` and its kin are those of one variant."""
    for program in ("iptables", "ip6tables"):
        for end in ("", "-save", "-restore"):
            (tmp_path / (program + end)).symlink_to(f"/usr/sbin/{program}-{request.param}{end}")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin")


@pytest.fixture(params=["ipv4", "ipv6"])
def family(request):
    return request.param


@pytest.fixture
def program(family):
    return "iptables" if family == "ipv4" else "ip6tables"


@pytest.fixture
def rules(family):
    return Iptables(family, base(family))


@pytest.fixture
def wanted(family):
    net = network_rules(network(dual=True), BRIDGE, family)
    ep = endpoint_rules(endpoint(*PORTS, dual=True), family)
    return net, ep


def run(*argv):
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def saved(program):
    """Return the rules and the chains that somebody made; a table without any may or may not be there."""
    lines = [line.split(" [0:0]")[0] for line in run(f"{program}-save").splitlines()]
    return [line for line in lines if line.startswith("-A") or line.endswith(" -")]


def ours(program):
    return [line for line in saved(program) if "PYNET" in line]


def test_what_is_ensured_is_what_the_kernel_says(rules, wanted, program):
    for want in wanted:
        rules.ensure(want)
    have = saved(program)
    for want in wanted:
        for chain in want.chains:
            assert [line for line in have if line.startswith(f"-A {chain.name} ")] == [
                f"-A {chain.name} {rule}" for rule in chain.rules
            ]
            assert f"-A {chain.jump.parent} {chain.jump.rule}" in have


def test_another_process_finds_nothing_to_do(rules, wanted, family, program):
    for want in wanted:
        rules.ensure(want)
    once = saved(program)
    successor = Iptables(family, base(family))
    assert {have.key for have in successor.owned()} == {want.key for want in wanted}
    for want in wanted:
        assert successor._to_ensure(want, successor._read()).text() == ""
        successor.ensure(want)
    assert saved(program) == once


def test_our_jumps_stand_first_whatever_was_there(rules, wanted, program):
    run(program, "-A", "FORWARD", "-i", "lo", "-j", "DROP")
    run(program, "-t", "nat", "-A", "POSTROUTING", "-o", "lo", "-j", "ACCEPT")
    rules.ensure(wanted[0])
    for table, chain, rule in (("filter", "FORWARD", "-j PYNET-FORWARD"), ("nat", "POSTROUTING", "-j PYNET-SNAT")):
        assert run(program, "-t", table, "-S", chain).splitlines()[1] == f"-A {chain} {rule}"


def test_the_last_one_takes_everything_and_leaves_the_rules_of_others(rules, wanted, program):
    run(program, "-A", "FORWARD", "-i", "lo", "-j", "DROP")
    before = saved(program)
    for want in wanted:
        rules.ensure(want)
    for want in reversed(wanted):
        rules.remove(want)
        rules.remove(want)
    assert saved(program) == before


def test_one_of_two_leaves_the_other(rules, wanted, program):
    for want in wanted:
        rules.ensure(want)
    rules.remove(wanted[1])
    left = ours(program)
    assert not [line for line in left if "-ee1e2e3e4" in line]
    assert [line for line in left if "-n1a2b3c4d" in line]


def test_a_change_replaces_the_rules(rules, family, program):
    rules.ensure(endpoint_rules(endpoint(WEB_DUAL, dual=True), family))
    changed = replace(WEB_DUAL, host_port=9090)
    rules.ensure(endpoint_rules(endpoint(changed, dual=True), family))
    [line] = [line for line in saved(program) if line.startswith("-A PYNET-DNAT-e")]
    assert "--dport 9090" in line


FLUSHES = {
    "filter flushed": [["-F"]],
    "nat flushed": [["-t", "nat", "-F"]],
    "all gone": [["-F"], ["-X"], ["-t", "nat", "-F"], ["-t", "nat", "-X"]],
    "one jump gone": [["-D", "FORWARD", "-j", "PYNET-FORWARD"]],
    "one chain emptied": [["-F", "PYNET-TO"]],
}


@pytest.mark.parametrize("flush", FLUSHES.values(), ids=FLUSHES)
def test_what_somebody_flushed_is_back_after_a_look(rules, wanted, program, flush):
    for want in wanted:
        rules.ensure(want)
    right = saved(program)
    for words in flush:
        run(program, *words)
    rules.owned()
    for want in wanted:
        rules.ensure(want)
    assert sorted(saved(program)) == sorted(right)


@pytest.mark.parametrize("flush", ["filter flushed", "nat flushed", "all gone", "one jump gone"])
def test_a_flush_is_noticed_by_the_next_change(rules, wanted, family, program, flush):
    rules.ensure(wanted[0])
    for words in FLUSHES[flush]:
        run(program, *words)
    rules.ensure(wanted[1])
    have = saved(program)
    assert "-A FORWARD -j PYNET-FORWARD" in have
    assert [line for line in have if line.startswith("-A PYNET-DNAT-e")]
    assert "-A POSTROUTING -j PYNET-SNAT" in have


def test_chains_of_the_dead_are_listed_and_removed(rules, wanted, family, program):
    for want in wanted:
        rules.ensure(want)
    successor = Iptables(family, base(family))
    for have in successor.owned():
        successor.remove(have)
    assert ours(program) == []


def test_a_base_without_networks_is_listed_and_removed(rules, wanted, family, program):
    rules.ensure(wanted[0])
    [net] = [want for want in wanted if want.owner.startswith("n")]
    for chain in net.chains:
        table, parent, name = chain.jump.table, chain.jump.parent, chain.name
        run(program, "-t", table, "-D", parent, *chain.jump.rule.split())
        run(program, "-t", table, "-F", name)
        run(program, "-t", table, "-X", name)
    assert ours(program) != []
    for have in rules.owned():
        rules.remove(have)
    assert ours(program) == []


def test_a_missing_program_is_named(rules, wanted, monkeypatch, tmp_path, program):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr("pluginkit.command._SEARCH_PATH", "")
    with pytest.raises(CommandError, match=f"cannot run {program}-save: No such file or directory; is the package"):
        rules.ensure(wanted[0])
