"""What follows from what engines have and what the cluster defines, without either."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netplugin.mirror.definition import LABEL, Definition, Local, Step, creation, parse_local, steps
from pluginkit import wire

BLUE = Definition(
    "blue", "1", False, True, True, {"name": "blue", "type": "overlay"}, {"team": "x"},
    (("10.61.0.0/24", "10.61.0.1"), ("fd61::/64", "fd61::1")), {"router": "10.61.0.9"},
)  # fmt: skip
OTHER = replace(BLUE, internal=True)
HERE, MIRRORED = Local("1", "blue", "", BLUE), Local("2", "blue", BLUE.digest, replace(BLUE, origin="2"))
DEEDS = ("make", "make other", "remove", "compare")
INSPECTED = {
    "Id": "1",
    "Name": "blue",
    "Driver": "pynet",
    "Scope": "local",
    "Internal": False,
    "EnableIPv6": True,
    "Options": {"type": "overlay", "name": "blue", "com.docker.network.bridge.name": "br7"},
    "Labels": {"team": "x"},
    "IPAM": {
        "Driver": "pynet",
        "Options": {"name": "blue"},
        "Config": [
            {"Subnet": "10.61.0.0/24", "Gateway": "10.61.0.1/24", "AuxiliaryAddresses": {"router": "10.61.0.9"}},
            {"Subnet": "fd61::/64", "Gateway": "fd61::1"},
        ],
    },
}


@pytest.mark.parametrize(
    ("have", "defined", "gone", "wanted"),
    [
        ([HERE], {}, (), [Step("publish", "blue", BLUE)]),
        ([HERE], {"blue": BLUE}, (), []),
        ([], {"blue": BLUE}, ("blue",), [Step("withdraw", "blue")]),
        # Told otherwise by an older version of ours.
        ([HERE], {"blue": OTHER}, (), [Step("publish", "blue", BLUE)]),
        ([], {"blue": BLUE}, (), [Step("create", "blue", BLUE)]),
        ([MIRRORED], {"blue": BLUE}, (), []),
        ([MIRRORED], {"blue": replace(BLUE, origin="3")}, (), []),
        ([MIRRORED], {"blue": OTHER}, (), [Step("remove", "blue", network="2")]),
        ([MIRRORED], {}, (), [Step("remove", "blue", network="2")]),
        # Made by hand here as well.
        ([replace(HERE, id="3")], {"blue": OTHER}, (), []),
        ([], {}, (), []),
    ],
)
def test_steps(have, defined, gone, wanted):
    assert list(steps(have, defined, gone)) == wanted


def test_what_is_mirrored_of_a_network_and_what_is_made_of_it():
    local = parse_local(INSPECTED, "pynet")
    assert local == HERE
    assert wire.decode(wire.encode(BLUE), Definition) == BLUE
    assert creation(BLUE, "blue", "pynet:latest") == {
        "Name": "blue", "CheckDuplicate": True, "Driver": "pynet:latest", "Internal": False, "EnableIPv6": True,
        "Options": {"type": "overlay", "name": "blue"}, "Labels": {"team": "x", LABEL: BLUE.digest},
        "IPAM": {"Driver": "pynet:latest", "Options": {"name": "blue"}, "Config": [
            {"Subnet": "10.61.0.0/24", "Gateway": "10.61.0.1", "AuxiliaryAddresses": {"router": "10.61.0.9"}},
            {"Subnet": "fd61::/64", "Gateway": "fd61::1"},
        ]},
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"Driver": "bridge"},
        {"Scope": "swarm"},
        {"Options": {"type": "bridge", "name": "blue"}},
        {"Options": None},
        {"Options": {"type": "overlay", "name": "green"}},
        {"IPAM": {"Driver": "default", "Options": None, "Config": []}},
        {"IPAM": {"Driver": "pynet", "Options": None, "Config": []}},
    ],
)
def test_what_cannot_be_mirrored(change):
    assert parse_local(INSPECTED | change, "pynet") is None


@given(st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from(DEEDS)), max_size=30))
def test_two_engines_agree_in_the_end_and_nothing_made_by_hand_is_removed(story):
    """Users make and remove the network on both; each mirror compares when it will."""
    have: dict[str, Local] = {}
    defined: dict[str, Definition] = {}
    ids = map(str, itertools.count())

    def compare(engine):
        alive = {local.id for local in have.values()}
        gone = {overlay for overlay, one in defined.items() if one.origin not in alive}
        for step in list(steps([have[engine]] if engine in have else [], defined, gone)):
            if step.do == "publish":
                defined["blue"] = step.definition
            elif step.do == "withdraw":
                del defined["blue"]
            elif step.do == "create":
                have[engine] = Local(next(ids), "blue", step.definition.digest, step.definition)
            else:
                assert have.pop(engine).mirrored

    for engine, what in story:
        if what == "compare":
            compare(engine)
        elif what == "remove":
            have.pop(engine, None)
        elif engine not in have:
            new = next(ids)
            have[engine] = Local(new, "blue", "", replace(BLUE if what == "make" else OTHER, origin=new))
    by_hand = {engine for engine, local in have.items() if not local.mirrored}
    for engine in "ABABABAB":
        compare(engine)
    settled = dict(have), dict(defined)
    for engine in "AB":
        compare(engine)
    assert (have, defined) == settled
    assert by_hand <= have.keys()
    assert set(have) == (set("AB") if defined else set())
    assert bool(defined) == bool(by_hand)
