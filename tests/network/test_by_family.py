"""A kernel that lacks a family."""

import pytest

from netplugin.kernel.firewall.by_family import ByFamily
from netplugin.resources import Ruleset
from pluginkit.errors import KernelError


def test_rules_of_a_family_that_the_kernel_lacks_are_refused_and_need_no_removal():
    rules = ByFamily({})
    with pytest.raises(KernelError, match=r"cannot write rules of ipv6: .*without that family"):
        rules.ensure(Ruleset("ipv6", "n12345678", ()))
    rules.remove(Ruleset("ipv6", "n12345678", ()))
    assert list(rules.owned()) == []
