"""The option table: what is accepted, what is refused, and that the documentation says the same."""

from pathlib import Path

import pytest

from netplugin.options import (
    OPTIONS,
    EndpointOptions,
    NetworkOptions,
    describe_options,
    parse_endpoint_options,
    parse_options,
)
from netplugin.values import LOCALHOST, PRIVATE, Route
from pluginkit.errors import BadRequest

DOCS = Path(__file__).parents[2] / "docs" / "options-pynet.md"


def test_nothing_given_is_the_defaults():
    assert parse_options({}) == NetworkOptions()


@pytest.mark.parametrize(
    ("key", "text", "field", "value"),
    [
        ("com.docker.network.driver.mtu", "1400", "mtu", 1400),
        ("com.docker.network.bridge.enable_ip_masquerade", "false", "masquerade", False),
        ("com.docker.network.bridge.enable_icc", "0", "icc", False),
        ("com.docker.network.container_iface_prefix", "lan", "interface_prefix", "lan"),
    ],
)
def test_each_option_sets_its_field(key, text, field, value):
    assert getattr(parse_options({key: text}), field) == value


def test_every_row_sets_a_field_that_exists():
    assert {option.field for option in OPTIONS} == set(NetworkOptions.__dataclass_fields__)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("com.docker.network.driver.mtu", "67"),
        ("com.docker.network.driver.mtu", "65536"),
        ("com.docker.network.driver.mtu", "big"),
        ("com.docker.network.driver.mtu", ""),
        ("com.docker.network.bridge.enable_icc", "maybe"),
        ("com.docker.network.bridge.host_binding_ipv4", "fd00::1"),
        ("com.docker.network.container_iface_prefix", "thirteen-long"),
        ("com.docker.network.container_iface_prefix", "a/b"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_accepted(key, text):
    with pytest.raises(BadRequest, match=rf"cannot use -o {key}={text}: it takes "):
        parse_options({key: text})


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("driver.mtu", "com.docker.network.driver.mtu"),
        ("mtu", "com.docker.network.driver.mtu"),
        ("enable-icc", "com.docker.network.bridge.enable_icc"),
        ("egress", "egress_rate"),
        ("published_from", "publish_from"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest(key, nearest):
    with pytest.raises(BadRequest, match=f"the nearest is {nearest}$"):
        parse_options({key: "1400"})


def test_an_unknown_docker_option_is_accepted_and_logged(caplog):
    assert parse_options({"com.docker.network.bridge.shiny": "1"}) == NetworkOptions()
    assert "com.docker.network.bridge.shiny" in caplog.text


def test_the_documentation_has_the_table():
    assert describe_options() in DOCS.read_text(), "run: make docs"


def test_options_of_an_endpoint():
    given = {"egress_rate": "10mbit", "burst": "64k"}
    assert parse_endpoint_options(given) == EndpointOptions(egress_rate=10_000_000, burst=65536)


@pytest.mark.parametrize("key", ["mtu", "egress", "anti_spoof"])
def test_an_option_that_endpoints_do_not_have_is_refused(key):
    with pytest.raises(BadRequest, match="the nearest is"):
        parse_endpoint_options({key: "1"})


@pytest.mark.parametrize(
    ("text", "rate"), [("10mbit", 10_000_000), ("1.5gbit", 1_500_000_000), ("800K", 800_000), ("64000", 64000)]
)
def test_rates(text, rate):
    assert parse_options({"egress_rate": text}).egress_rate == rate


@pytest.mark.parametrize("text", ["", "fast", "63kbit", "-1mbit", "10mb it", "1e9"])
def test_what_is_no_rate(text):
    with pytest.raises(BadRequest, match="it takes bits a second"):
        parse_options({"ingress_rate": text})


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("any", ()),
        ("localhost", ("localhost",)),
        ("10.0.0.0/8, fd00::/8", ("10.0.0.0/8", "fd00::/8")),
        ("10.0.0.0/8,any", ()),
        ("lan", (LOCALHOST, *PRIVATE)),
    ],
)
def test_who_may_reach_published_ports(text, sources):
    assert parse_options({"publish_from": text}).publish_from == sources


@pytest.mark.parametrize("text", ["", "everybody", "10.0.0.1/8", "10.0.0.0/33"])
def test_what_is_no_source(text):
    with pytest.raises(BadRequest):
        parse_options({"publish_from": text})


def test_routes():
    text = "10.1.0.0/16 via 10.9.0.254, fd01::/64 via fd09::fe,10.2.0.0/16"
    assert parse_options({"routes": text}).routes == (
        Route("10.1.0.0/16", "10.9.0.254"),
        Route("fd01::/64", "fd09::fe"),
        Route("10.2.0.0/16", ""),
    )


@pytest.mark.parametrize("text", ["", "10.1.0.0/16 via fd09::1", "10.1.0.1/16", "10.1.0.0/16 via", "default via ::1"])
def test_what_is_no_route(text):
    with pytest.raises(BadRequest):
        parse_options({"routes": text})
