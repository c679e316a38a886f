"""Pool arithmetic against tables and against plain sets."""

import sys
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netplugin.ipam.pools import (
    DEFAULT_RANGES,
    NumberSet,
    PoolRange,
    choices,
    choose_pool,
    next_free,
    overlap,
    parse_pool_range,
    usable,
)
from pluginkit.errors import BadRequest


def ranges(*texts):
    return [parse_pool_range(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "base", "prefixlen"),
    [
        ("base=10.10.0.0/16,size=24", "10.10.0.0/16", 24),
        ("base=10.10.0.0/16, size=16", "10.10.0.0/16", 16),
        ("size=64,base=fd00::/48", "fd00::/48", 64),
    ],
)
def test_a_pool_range_is_spelled_as_dockerd_spells_it(text, base, prefixlen):
    assert parse_pool_range(text) == PoolRange(ip_network(base), prefixlen)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.10.0.0/16",
        "base=10.10.0.0/16",
        "size=24",
        "base=10.10.0.1/16,size=24",
        "base=10.10.0.0/16,size=15",
        "base=10.10.0.0/16,size=33",
        "base=10.10.0.0/16,size=x",
        "base=10.10.0.0/16,size=24,more=1",
        "base=10.10.0.0/16,size=2=4",
    ],
)
def test_another_spelling_is_refused(text):
    with pytest.raises(BadRequest, match="base=NETWORK,size=BITS"):
        parse_pool_range(text)


@pytest.mark.parametrize(
    ("base", "taken", "chosen"),
    [
        ("base=10.0.0.0/22,size=24", [], "10.0.0.0/24"),
        ("base=10.0.0.0/22,size=24", ["10.0.0.0/24"], "10.0.1.0/24"),
        ("base=10.0.0.0/22,size=24", ["10.0.1.0/24"], "10.0.0.0/24"),
        ("base=10.0.0.0/22,size=24", ["10.0.0.77/32"], "10.0.1.0/24"),
        ("base=10.0.0.0/22,size=24", ["10.0.0.0/23"], "10.0.2.0/24"),
        ("base=10.0.0.0/22,size=24", ["10.0.0.0/24", "10.0.0.8/29", "10.0.2.0/24"], "10.0.1.0/24"),
        ("base=10.0.0.0/22,size=24", ["10.0.0.0/8"], None),
        ("base=10.0.0.0/22,size=24", ["10.0.0.0/23", "10.0.2.0/23"], None),
        ("base=10.0.0.0/22,size=22", ["10.0.3.255/32"], None),
        ("base=10.0.0.0/22,size=24", ["9.0.0.0/8", "11.0.0.0/8", "fd00::/8"], "10.0.0.0/24"),
        ("base=255.255.255.0/24,size=25", ["255.255.255.0/25"], "255.255.255.128/25"),
        ("base=255.255.255.0/24,size=25", ["255.255.255.0/25", "255.255.255.255/32"], None),
        ("base=fd00::/48,size=64", ["fd00::/64", "10.0.0.0/8"], "fd00:0:0:1::/64"),
        ("base=10.0.0.0/31,size=32", ["10.0.0.0/32"], "10.0.0.1/32"),
    ],
)
def test_the_first_pool_that_is_clear_of_everything(base, taken, chosen):
    found = choose_pool(ranges(base), [ip_network(text) for text in taken])
    assert found == (None if chosen is None else ip_network(chosen))


def test_ranges_are_used_up_in_their_order():
    both = ranges("base=10.0.0.0/24,size=25", "base=10.9.0.0/24,size=24")
    taken = []
    while (pool := choose_pool(both, taken)) is not None:
        taken.append(pool)
    assert [str(pool) for pool in taken] == ["10.0.0.0/25", "10.0.0.128/25", "10.9.0.0/24"]


def test_the_default_ranges_hold_three_thousand_networks():
    assert sum(1 << pool_range.prefixlen - pool_range.base.prefixlen for pool_range in DEFAULT_RANGES) == 3072


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(24, 32)), max_size=12), st.integers(24, 28))
def test_a_chosen_pool_is_the_lowest_of_those_that_overlap_with_nothing(taken, prefixlen):
    networks = [ip_network((f"10.0.0.{last}", bits), strict=False) for last, bits in taken]
    base = ip_network("10.0.0.0/24")
    fitting = [
        pool for pool in base.subnets(new_prefix=prefixlen) if not any(overlap(pool, network) for network in networks)
    ]
    assert choose_pool([PoolRange(base, prefixlen)], networks) == (fitting[0] if fitting else None)


@pytest.mark.parametrize(
    ("network", "first", "last"),
    [
        ("10.0.0.0/24", 1, 254),
        ("10.0.0.0/30", 1, 2),
        ("10.0.0.0/31", 0, 1),
        ("10.0.0.7/32", 0, 0),
        ("fd00::/64", 1, 2**64 - 1),
        ("fd00::/126", 1, 3),
        ("fd00::/127", 0, 1),
        ("fd00::5/128", 0, 0),
    ],
)
def test_what_a_host_can_have(network, first, last):
    assert usable(ip_network(network)) == (first, last)


@pytest.mark.parametrize(
    ("network", "ip_range", "first", "last"),
    [
        ("10.0.0.0/24", None, 1, 254),
        ("10.0.0.0/24", "10.0.0.64/26", 64, 127),
        ("10.0.0.0/24", "10.0.0.0/26", 1, 63),
        ("10.0.0.0/24", "10.0.0.128/25", 128, 254),
        ("10.0.0.0/24", "10.0.0.9/32", 9, 9),
        ("fd00::/64", "fd00::1:0/112", 65536, 131071),
    ],
)
def test_an_ip_range_limits_what_is_chosen(network, ip_range, first, last):
    assert choices(ip_network(network), ip_range and ip_network(ip_range)) == (first, last)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4095)), max_size=300), st.integers(0, 4095))
def test_a_number_set_is_a_set(steps, start):
    numbers, model = NumberSet(12), set()
    for is_added, number in steps:
        (numbers.add if is_added else numbers.discard)(number)
        (model.add if is_added else model.discard)(number)
    assert all((number in numbers) == (number in model) for number in range(0, 4096, 7))
    assert numbers.next_free(start) == next((number for number in range(start, 4096) if number not in model), None)


@given(st.sets(st.integers(0, 4095)), st.integers(0, 4095))
def test_a_nearly_full_set_finds_what_is_left(free, start):
    numbers = NumberSet(12)
    for number in range(4096):
        if number not in free:
            numbers.add(number)
    assert numbers.next_free(start) == min((number for number in free if number >= start), default=None)


@given(st.sets(st.integers(0, 31)), st.integers(0, 31), st.integers(0, 31), st.integers(-1, 31))
def test_the_next_one_goes_round(held, first, last, after):
    numbers = NumberSet(5)
    for number in held:
        numbers.add(number)
    in_turn = [*range(after + 1, 32), *range(after + 1)]
    fitting = [number for number in in_turn if first <= number <= last and number not in held]
    assert next_free(numbers, [(first, last)], after) == (fitting[0] if fitting else None)


@pytest.mark.parametrize("bits", [0, 1, 5, 6, 7, 24, 64, 128])
def test_a_set_of_any_size_ends_where_it_ends(bits):
    numbers = NumberSet(bits)
    last = 2**bits - 1
    assert numbers.next_free(last) == last
    numbers.add(last)
    assert numbers.next_free(last) is None
    assert last in numbers
    numbers.discard(last)
    assert numbers.next_free(0) == 0


def lines_run(function):
    """Return how many lines of Python `function` runs."""
    count = 0

    def trace(_frame, event, _argument):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def test_the_last_address_of_a_16_takes_no_more_steps_than_three_words_on_the_way():
    numbers = NumberSet(16)
    steps = {}
    for number in range(1, 65535):
        if number in (1, 30000, 65534):
            steps[number] = lines_run(lambda: next_free(numbers, [(1, 65534)], 0))
        assert next_free(numbers, [(1, 65534)], number - 1) == number
        numbers.add(number)
    # The tree has three levels: at most two more up, and two more down, in each of the two halves of the search.
    assert max(steps.values()) <= steps[1] + 60
    assert steps[65534] <= steps[30000] + 30
    assert next_free(numbers, [(1, 65534)], 65534) is None
