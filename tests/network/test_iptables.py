"""Rules in a real network namespace, by iptables over nf_tables and by iptables-legacy."""

import subprocess
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from netplugin.firewall.iptables import base, endpoint_rules, exceptions, exceptions_base, network_rules
from netplugin.firewall.policy import endpoint_openings, network_policies
from netplugin.kernel.firewall.activity import Activity
from netplugin.kernel.firewall.iptables import Iptables
from netplugin.options import NetworkOptions
from netplugin.records import PublishedPort
from pluginkit.errors import CommandError
from tests.network import samples
from tests.network.samples import ANY4, ANY6, DNS_LOCAL, ENDPOINT_ID, WEB_DUAL, network

pytestmark = pytest.mark.usefixtures("netns", "variant")

BRIDGE = "pn-1a2b3c4d"
PORTS = (
    WEB_DUAL,
    DNS_LOCAL,
    PublishedPort("sctp", 7000, 7000, IPv4Address("10.0.0.7"), None),
    PublishedPort("tcp", 20000, 20000, ANY4, ANY6, 10000),
    PublishedPort("tcp", 80, 30000, ANY4, ANY6, 1000),
)


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
    return Iptables(family, base(family), Activity())


def policy(family, **options):
    policies = network_policies(network(dual=True, options=NetworkOptions(**options)), BRIDGE)
    return next(policy for policy in policies if policy.family == family)


def endpoint(*ports, family):
    openings = endpoint_openings(samples.endpoint(*ports, dual=True), policy(family))
    return endpoint_rules(ENDPOINT_ID, policy(family), openings)


@pytest.fixture
def wanted(family):
    return network_rules(policy(family)), endpoint(*PORTS, family=family)


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
    successor = Iptables(family, base(family), Activity())
    assert {have.key for have in successor.owned()} == {want.key for want in wanted}
    for want in wanted:
        assert successor._to_ensure(want, successor._read()) is None
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
    rules.ensure(endpoint(WEB_DUAL, family=family))
    changed = replace(WEB_DUAL, host_port=9090)
    rules.ensure(endpoint(changed, family=family))
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
    successor = Iptables(family, base(family), Activity())
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


MODES = {
    "nat": {},
    "unprotected": {"gateway_mode_ipv4": "nat-unprotected", "gateway_mode_ipv6": "nat-unprotected"},
    "routed": {"gateway_mode_ipv4": "routed", "gateway_mode_ipv6": "routed"},
    "limited": {"publish_from": ("localhost", "10.0.0.0/8", "fd00::/8")},
    "chosen source": {"host_ipv4": IPv4Address("10.0.0.7"), "host_ipv6": IPv6Address("fd00::7")},
    "trusted": {"trusted_host_interfaces": ("eth1", "wg0")},
}


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_the_words_of_every_mode_are_those_of_iptables_save(rules, family, options):
    chosen = policy(family, **options)
    openings = endpoint_openings(samples.endpoint(*PORTS, dual=True), chosen)
    for want in (network_rules(chosen), endpoint_rules(ENDPOINT_ID, chosen, openings)):
        rules.ensure(want)
        assert rules._to_ensure(want, rules._read()) is None


def test_another_backends_chains_go_when_it_takes_over(rules, wanted, family, program):
    for want in wanted:
        rules.ensure(want)
    other = Iptables(family, exceptions_base(family), Activity())
    existing = other.owned()
    other.ensure(exceptions(policy(family)))
    for have in existing:
        if have.owner.startswith("e"):
            other.remove(have)
    assert {line.split()[0] for line in saved(program) if line.startswith(":")} == {
        ":PYNET-FORWARD",
        ":PYNET-TO",
        ":PYNET-FROM",
        ":PYNET-TO-n1a2b3c4d",
        ":PYNET-FROM-n1a2b3c4d",
    }
    assert not [line for line in saved(program) if "PYNET-DNAT" in line or "PYNET-SNAT" in line]


def test_the_administrators_word_comes_before_ours(rules, wanted, program):
    run(program, "-N", "DOCKER-USER")
    run(program, "-A", "FORWARD", "-j", "DOCKER-USER")
    run(program, "-A", "FORWARD", "-i", "docker0", "-j", "ACCEPT")
    rules.ensure(wanted[0])
    expected = ["-A FORWARD -j DOCKER-USER", "-A FORWARD -j PYNET-FORWARD", "-A FORWARD -i docker0 -j ACCEPT"]
    assert run(program, "-S", "FORWARD").splitlines()[1:] == expected
    rules.ensure(wanted[1])
    assert run(program, "-S", "FORWARD").splitlines()[1:] == expected


def test_ours_move_behind_a_docker_user_that_came_later(rules, wanted, program):
    rules.ensure(wanted[0])
    run(program, "-N", "DOCKER-USER")
    run(program, "-I", "FORWARD", "-i", "docker0", "-j", "ACCEPT")
    run(program, "-I", "FORWARD", "-j", "DOCKER-USER")
    rules.owned()
    rules.ensure(wanted[0])
    assert run(program, "-S", "FORWARD").splitlines()[1:3] == [
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -j PYNET-FORWARD",
    ]


def test_a_docker_user_that_came_while_nobody_looked_still_comes_first(rules, wanted, program):
    assert list(rules.owned()) == []
    run(program, "-N", "DOCKER-USER")
    run(program, "-A", "FORWARD", "-j", "DOCKER-USER")
    rules.ensure(wanted[0])
    assert run(program, "-S", "FORWARD").splitlines()[1:] == [
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -j PYNET-FORWARD",
    ]
    run(program, "-D", "FORWARD", "-j", "DOCKER-USER")
    run(program, "-I", "FORWARD", "-i", "docker0", "-j", "ACCEPT")
    run(program, "-I", "FORWARD", "-j", "DOCKER-USER")
    rules.ensure(wanted[1])
    assert run(program, "-S", "FORWARD").splitlines()[1:3] == [
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -j PYNET-FORWARD",
    ]


BEHIND = {
    "right behind ours": ([], ["-j DOCKER-USER", "-j PYNET-FORWARD"]),
    "behind a rule of theirs": (
        ["-I", "FORWARD", "-i", "lo", "-j", "DROP"],
        ["-i lo -j DROP", "-j DOCKER-USER", "-j PYNET-FORWARD"],
    ),
    "far behind": (
        ["-I", "FORWARD", "2", "-i", "lo", "-j", "DROP"],
        ["-i lo -j DROP", "-j DOCKER-USER", "-j PYNET-FORWARD"],
    ),
}


@pytest.mark.parametrize(("other", "expected"), BEHIND.values(), ids=BEHIND)
def test_ours_move_behind_a_docker_user_that_stands_behind_them(rules, wanted, program, other, expected):
    rules.ensure(wanted[0])
    run(program, "-N", "DOCKER-USER")
    run(program, "-A", "FORWARD", "-j", "DOCKER-USER")
    if other:
        run(program, *other)
    rules.owned()
    rules.ensure(wanted[0])
    order = [line.removeprefix("-A FORWARD ") for line in run(program, "-S", "FORWARD").splitlines()[1:]]
    assert order == expected
    rules.owned()
    assert rules._to_ensure(wanted[0], rules._read()) is None


@pytest.mark.parametrize("damage", ["-F FORWARD", "-t mangle -F FORWARD", "-I FORWARD -i lo -j ACCEPT"])
def test_damage_is_seen_by_looking(rules, wanted, program, damage):
    assert not rules.is_damaged(), "nothing is there yet"
    for want in wanted:
        rules.ensure(want)
    assert not rules.is_damaged()
    run(program, "-A", "FORWARD", "-i", "lo", "-j", "DROP")
    assert not rules.is_damaged(), "others may stand behind us"
    run(program, *damage.split())
    assert rules.is_damaged()
    assert rules.owned(), "a look at what is there, with which each reconcile begins"
    rules.ensure(wanted[0])
    assert not rules.is_damaged()
