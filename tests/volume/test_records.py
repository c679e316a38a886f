"""Names, caller IDs, and the counts of mounts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluginkit.errors import BadRequest
from volplugin.records import Attachment, MountCount, parse_caller_id, parse_name


@pytest.mark.parametrize("name", ["a", "0", "v1", "my_volume-1.2", "A" * 255, "a" * 64, "a..b"])
def test_what_docker_allows_is_a_name(name: str) -> None:
    assert parse_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "/", "a/b", "../a", "a/../b", "/etc", ".trash", ".hidden", "-rf", "_x", "a b", "a\n", "a\0b",
        "\0", "a\\b", "~", "$HOME", "a;b", "a`id`", "ä", "a\u202e", "\u0661", "a%2fb", "a:b", "a" * 256,
        "x" * 100_000, "\ud800",
    ],
)  # fmt: skip
def test_anything_else_is_none(name: str) -> None:
    with pytest.raises(BadRequest, match=r"^cannot use .* as a volume name"):
        parse_name(name)


@given(st.text())
def test_a_name_is_always_one_plain_component_of_a_path(text: str) -> None:
    try:
        name = parse_name(text)
    except BadRequest:
        return
    assert name == text
    assert name.isascii()
    assert "/" not in name
    assert not name.startswith(".")
    assert len(name) <= 255


@pytest.mark.parametrize("text", ["", "a" * 256, "a\nb", "\0"])
def test_a_caller_id_is_short_and_printable(text: str) -> None:
    with pytest.raises(BadRequest, match="as a caller ID"):
        parse_caller_id(text)
    assert parse_caller_id("f" * 64) == "f" * 64


def test_the_same_id_counts_again() -> None:
    twice = Attachment().mounted("a", "e").mounted("a", "e")
    assert twice.mounts == (MountCount("a", "e", 2),)
    assert twice.unmounted("a", "e").callers == {"a": 1}
    assert twice.unmounted("a", "e").unmounted("a", "e") == Attachment()


def test_an_unknown_id_changes_nothing() -> None:
    one = Attachment().mounted("a", "e")
    assert one.unmounted("b", "e") == one


def test_an_engine_unmounts_what_it_mounted_before_what_it_took_over() -> None:
    both = Attachment().mounted("a", "old").mounted("a", "new")
    assert both.unmounted("a", "new").engines == {"old"}
    assert both.unmounted("a", "new").unmounted("a", "new") == Attachment()


def test_counts_of_a_dead_engine_can_be_dropped_without_the_others() -> None:
    both = Attachment().mounted("a", "old").mounted("b", "new")
    assert both.without({"old"}) == Attachment().mounted("b", "new")
