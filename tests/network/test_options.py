"""The option table: what is accepted, what is refused, and that the documentation says the same."""

from pathlib import Path

import pytest

from netplugin.options import OPTIONS, NetworkOptions, describe_options, parse_options
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


def test_an_unknown_option_is_refused_with_the_nearest():
    with pytest.raises(BadRequest, match=r"the nearest is com\.docker\.network\.driver\.mtu"):
        parse_options({"driver.mtu": "1400"})


def test_an_unknown_docker_option_is_accepted_and_logged(caplog):
    assert parse_options({"com.docker.network.bridge.shiny": "1"}) == NetworkOptions()
    assert "com.docker.network.bridge.shiny" in caplog.text


def test_the_documentation_has_the_table():
    assert describe_options() in DOCS.read_text(), "run: make docs"
