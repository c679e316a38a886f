"""What volumes may still take of the disk, and when one more is too many."""

from __future__ import annotations

import pytest

from pluginkit.errors import Exhausted
from volplugin.capacity import ALWAYS, NEVER, Claim, Overcommit, check, growth, parse_overcommit

GIB = 1 << 30


def test_what_is_on_the_disk_already_is_not_counted_again() -> None:
    assert growth([Claim(4 * GIB, GIB), Claim(GIB, GIB), Claim(GIB, GIB + 4096)]) == 3 * GIB
    assert growth([]) == 0


@pytest.mark.parametrize(
    ("policy", "available", "fits"),
    [
        (NEVER, 5 * GIB, True),
        (NEVER, 5 * GIB - 1, False),
        (Overcommit(2.5), 2 * GIB, True),
        (Overcommit(2.5), 2 * GIB - 1, False),
        (ALWAYS, 0, True),
    ],
)
def test_the_policy_decides(policy: Overcommit, available: int, fits: bool) -> None:
    def growth_bytes() -> int:
        return 3 * GIB

    if fits:
        check(policy, available, [4 * GIB], growth_bytes, "v", 2 * GIB)
    else:
        with pytest.raises(Exhausted, match=r"^cannot give v 2GiB: .* may still grow by 3\.0GiB; "):
            check(policy, available, [4 * GIB], growth_bytes, "v", 2 * GIB)


def test_where_their_sizes_fit_no_volume_is_looked_at() -> None:
    check(NEVER, 6 * GIB, [4 * GIB], lambda: pytest.fail("looked at"), "v", 2 * GIB)


@pytest.mark.parametrize(
    ("text", "policy"), [("never", NEVER), ("always", ALWAYS), ("ratio:1", NEVER), ("ratio:2.5", Overcommit(2.5))]
)
def test_a_policy_has_a_name(text: str, policy: Overcommit) -> None:
    assert parse_overcommit(text) == policy


@pytest.mark.parametrize("text", ["", "no", "ratio", "ratio:", "ratio:0.5", "ratio:-2", "ratio:1e9", "ratio:nan", "2"])
def test_anything_else_is_no_policy(text: str) -> None:
    with pytest.raises(ValueError, match=r"^"):
        parse_overcommit(text)
