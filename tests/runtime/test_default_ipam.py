"""Subnets and addresses of networks whose driver has no IPAM."""

from ipaddress import ip_network

import pytest

from runtime.errors import BadParameter, Conflict, Failed
from runtime.networks.default_ipam import GATEWAY, DefaultIpam


def ipam(state, *pools, host=()):
    return DefaultIpam(state, lambda: [ip_network(each) for each in host], pools or ("base=10.7.0.0/22,size=24",))


def test_automatic_subnets_avoid_the_machine_s_and_each_other(state):
    one = ipam(state, host=["10.7.1.128/25"])
    assert [one.request_pool("", "", "", {}, False)[1] for _ in range(3)] == [
        "10.7.0.0/24",
        "10.7.2.0/24",
        "10.7.3.0/24",
    ]
    with pytest.raises(Failed, match=r"cannot find a free subnet in 10\.7\.0\.0/22"):
        one.request_pool("", "", "", {}, False)
    one.release_pool("LocalDefault/10.7.2.0/24")
    assert ipam(state).request_pool("", "", "", {}, False)[1] == "10.7.1.0/24"
    six = ip_network(one.request_pool("", "", "", {}, True)[1])
    assert (six.prefixlen, six.subnet_of(ip_network("fd00::/8"))) == (64, True)


def test_the_lowest_free_address_is_given_and_none_twice(state):
    one = ipam(state)
    pool, _, _ = one.request_pool("", "10.7.0.0/29", "", {}, False)
    assert one.request_address(pool, "", dict(GATEWAY)) == "10.7.0.1/29"
    assert [one.request_address(pool, "", {}) for _ in range(2)] == ["10.7.0.2/29", "10.7.0.3/29"]
    one.release_address(pool, "10.7.0.2")
    assert [one.request_address(pool, "", {}) for _ in range(4)] == [f"10.7.0.{n}/29" for n in (2, 4, 5, 6)]
    with pytest.raises(Failed, match="no available addresses"):
        one.request_address(pool, "", {})
    with pytest.raises(Conflict, match="already in use"):
        one.request_address(pool, "10.7.0.3", {})
    with pytest.raises(BadParameter, match="not in"):
        one.request_address(pool, "10.8.0.3", {})


def test_a_range_bounds_what_is_given_but_not_what_is_asked_for(state):
    one = ipam(state)
    pool, _, _ = one.request_pool("", "10.7.0.0/24", "10.7.0.64/30", {}, False)
    assert [one.request_address(pool, "", {}) for _ in range(4)] == [f"10.7.0.{n}/24" for n in (64, 65, 66, 67)]
    assert one.request_address(pool, "10.7.0.9", {}) == "10.7.0.9/24"


@pytest.mark.parametrize(("subnet", "count"), [("10.7.0.0/31", 2), ("10.7.0.0/32", 1), ("fd09::/127", 2)])
def test_the_smallest_subnets_have_no_address_to_spare(state, subnet, count):
    one = ipam(state)
    pool, _, _ = one.request_pool("", subnet, "", {}, ":" in subnet)
    assert len({one.request_address(pool, "", {}) for _ in range(count)}) == count
    with pytest.raises(Failed, match="no available"):
        one.request_address(pool, "", {})


@pytest.mark.parametrize("text", ["", "base=10.0.0.0/8", "base=10.0.0.0/24,size=16", "base=x,size=24", "a=b"])
def test_a_nonsensical_address_pool_is_refused(state, text):
    with pytest.raises(BadParameter, match="cannot use address pool"):
        ipam(state, text)
