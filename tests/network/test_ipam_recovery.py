"""Pools and addresses outlive the driver, its crashes and lost messages; many requests at once do not meet."""

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from netplugin.kinds import ADDRESSES, INSTALLATION, POOLS
from tests.network.ipam_engine import GATEWAY, SMALL, Ipam, Using, host, named


@pytest.fixture
def ipam(state_dir):
    with closing(Ipam(state_dir)) as ipam:
        yield ipam


@pytest.fixture
def restart(ipam, state_dir):
    """Return a function that ends the run of the driver and starts another one on the same records."""
    running = [ipam]

    def restart(**arguments):
        running[-1].close()
        running.append(Ipam(state_dir, **arguments))
        return running[-1]

    yield restart
    running[-1].close()


# --- restarts and crashes ---


def test_a_restart_finds_everything(ipam, restart):
    pool = ipam.pool("10.9.0.0/24", "10.9.0.64/26")["PoolID"]
    gateway = ipam.address(pool, "10.9.0.1", GATEWAY)
    ula = ip_network(ipam.pool(v6=True)["Pool"]).supernet(new_prefix=48)
    given = [ipam.address(pool) for _ in range(3)]
    ipam.release(pool, given[2])
    ipam = restart()
    assert "Pool overlaps" in ipam.pool_error("10.9.0.0/16")
    for address in (gateway, given[0], given[1]):
        assert "Address already in use" in ipam.address_error(pool, host(address))
    assert ipam.address(pool) == "10.9.0.67/24"
    assert ipam.address(pool, host(given[2])) == given[2]
    assert ip_network(ipam.pool(v6=True)["Pool"]).supernet(new_prefix=48) == ula


def test_a_name_gets_its_former_address_if_it_is_free(ipam, restart):
    pool = ipam.pool("10.9.0.0/24")["PoolID"]
    ann, bob = (ipam.address(pool, "", named(name)) for name in ("ann", "bob"))
    for address in (ann, bob):
        ipam.release(pool, address)
    assert ipam.address(pool) not in (ann, bob)
    assert ipam.address(pool, "", named("bob")) == bob
    ipam = restart()
    assert ipam.address(pool, "", named("ann")) == ann
    ipam.release(pool, ann)
    assert ipam.address(pool, host(ann), named("eve")) == ann
    assert ipam.address(pool, "", named("ann")) not in (ann, bob)


def cut_short(ipam, kind, step):
    """The last step of the next save of `kind` never happens: the disk is what a crash just before it leaves."""
    row = ipam.store.rows(kind)[-1]
    ipam.store.intend(kind, row.id, row.parent, step(row.current))


def test_an_address_whose_giving_was_cut_short_is_free(ipam, restart):
    pool = ipam.pool("10.9.0.0/24")["PoolID"]
    record = replace(held_address(ipam, pool), address="10.9.0.9")
    ipam.store.intend(ADDRESSES, f"{pool}/10.9.0.9", pool, record)
    ipam = restart()
    assert ipam.address(pool, "10.9.0.9") == "10.9.0.9/24"


def held_address(ipam, pool):
    ipam.address(pool)
    return ipam.store.rows(ADDRESSES, parent=pool)[0].current


def test_a_release_that_was_cut_short_is_done(ipam, restart):
    pool = ipam.pool("10.9.0.0/24")["PoolID"]
    ipam.address(pool)
    cut_short(ipam, ADDRESSES, lambda record: replace(record, held=False))
    ipam = restart()
    assert ipam.address(pool) == "10.9.0.2/24"
    assert ipam.address(pool, "10.9.0.1") == "10.9.0.1/24"
    assert not any(row.pending for row in ipam.store.rows(ADDRESSES))


def test_a_pool_whose_release_was_cut_short_is_gone(ipam, restart):
    pool = ipam.pool("10.9.0.0/24")["PoolID"]
    ipam.address(pool)
    cut_short(ipam, POOLS, lambda _: None)
    ipam = restart()
    assert ipam.store.rows(POOLS) == ipam.store.rows(ADDRESSES) == []


def test_a_pool_whose_giving_was_cut_short_never_was(ipam, restart):
    ipam.pool("10.9.0.0/24")
    row = ipam.store.rows(POOLS)[0]
    ipam.store.intend(POOLS, "pylocal/10.8.0.0/24/0", "", replace(row.current, subnet="10.8.0.0/24"))
    ipam = restart()
    assert ipam.pool("10.8.0.0/24")
    assert len(ipam.store.rows(POOLS)) == 2


# --- what was never released ---


def test_a_pool_that_nothing_speaks_for_can_be_had_again_after_a_restart(ipam, restart):
    old = ipam.pool("10.9.0.0/24")["PoolID"]
    ipam.address(old, "10.9.0.1", GATEWAY)
    assert "Pool overlaps" in ipam.pool_error("10.9.0.0/24")
    ipam = restart(host=Using("10.0.0.0/8", "192.0.2.0/24"))
    new = ipam.pool("10.9.0.0/24")["PoolID"]
    assert ipam.address(new, "10.9.0.1", GATEWAY) == "10.9.0.1/24"
    assert "not known" in ipam.address_error(old)


def test_a_pool_of_an_engine_that_has_died_can_be_had_by_the_next_one(ipam, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        engine = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); sys.stdin.read()"
        process = subprocess.Popen([sys.executable, "-c", engine, str(tmp_path / "sock")], stdin=subprocess.PIPE)
        ipam.connection, _ = listener.accept()
        with ipam.connection:
            ipam.pool("10.9.0.0/24")
        ipam.connection = None
        assert "Pool overlaps" in ipam.pool_error("10.9.0.0/24")
        process.communicate()
        assert ipam.pool("10.9.0.0/24")


@pytest.mark.parametrize("sign", ["host", "network", "aux", "endpoint"])
def test_a_pool_with_a_sign_of_life_is_kept(ipam, restart, sign):
    pool = ipam.pool("10.9.0.0/24")["PoolID"]
    ipam.address(pool, "10.9.0.1", GATEWAY)
    if sign == "network":
        ipam.network("10.9.0.0/24")
    elif sign != "host":
        ipam.address(pool, "10.9.0.7" if sign == "aux" else "")
    ipam = restart(host=Using("10.9.0.0/24" if sign == "host" else "192.0.2.0/24"))
    assert f"given as {pool}; choose another --subnet" in ipam.pool_error("10.9.0.0/24")


def test_when_no_pool_is_left_those_that_nothing_speaks_for_are_used_again(ipam, restart):
    ipam = restart(config=SMALL)
    pools = [ipam.pool()["PoolID"] for _ in range(4)]
    elsewhere = ipam.pool("10.9.0.0/24")["PoolID"]
    ipam.address(pools[1])
    ipam.pool_error()
    ipam = restart(config=SMALL)
    assert [ipam.pool()["Pool"] for _ in range(3)] == ["10.50.0.0/24", "10.50.2.0/24", "10.50.3.0/24"]
    assert "all of" in ipam.pool_error()
    assert elsewhere in {row.id for row in ipam.store.rows(POOLS)}


def test_a_wanted_address_that_no_endpoint_has_can_be_had_after_a_restart(ipam, restart):
    pool = ipam.pool("10.9.0.0/24")["PoolID"]
    ipam.address(pool, "10.9.0.9")
    ipam.network("10.9.0.0/24", "10.9.0.20/24")
    for address in ("10.9.0.20", "10.9.0.30"):
        ipam.address(pool, address)
        assert "Address already in use" in ipam.address_error(pool, address)
    ipam = restart()
    assert ipam.address(pool, "10.9.0.30") == "10.9.0.30/24"
    assert "as endpoint" in ipam.address_error(pool, "10.9.0.20")
    assert "as aux" in ipam.address_error(pool, "10.9.0.9")


def test_a_full_pool_of_our_own_network_is_searched_for_what_no_endpoint_has(ipam, restart, monkeypatch):
    monkeypatch.setattr("netplugin.ipam.driver._RECLAIM_AFTER_S", 0.0)
    pool = ipam.pool("10.9.0.0/29")["PoolID"]
    ipam.address(pool, "", GATEWAY)
    ipam.network("10.9.0.0/29", "10.9.0.3/29")
    assert len([ipam.address(pool) for _ in range(5)]) == 5
    assert "no available" in ipam.address_error(pool)
    ipam = restart()
    assert [ipam.address(pool) for _ in range(4)] == [f"10.9.0.{last}/29" for last in (2, 4, 5, 6)]
    assert "no available" in ipam.address_error(pool)


# --- many at once ---


def test_a_thousand_at_once_get_a_thousand_addresses(ipam):
    pool = ipam.pool("10.8.0.0/22")["PoolID"]
    with ThreadPoolExecutor(32) as threads:
        given = list(threads.map(lambda _: ipam.address(pool), range(1000)))
    assert len(set(given)) == 1000


def test_many_at_once_get_different_pools_and_one_gets_the_wanted_one(ipam):
    with ThreadPoolExecutor(16) as threads:
        pools = list(threads.map(lambda _: ip_network(ipam.pool()["Pool"]), range(100)))
        body = {"AddressSpace": "pylocal", "Pool": "10.9.0.0/24"}
        statuses = list(threads.map(lambda _: ipam.call("RequestPool", **body)[0], range(50)))
    assert len(set(pools)) == 100
    assert sorted(statuses) == [200] + [500] * 49


def test_releases_among_requests_leave_no_address_twice(ipam):
    pool = ipam.pool("10.8.0.0/26")["PoolID"]

    def use(_):
        address = ipam.address(pool)
        ipam.release(pool, address)
        return ipam.address(pool)

    with ThreadPoolExecutor(16) as threads:
        given = list(threads.map(use, range(40)))
    assert len(set(given)) == 40
    assert {row.current.address for row in ipam.store.rows(ADDRESSES) if row.current.held} == set(map(host, given))


def test_the_last_address_costs_the_database_what_the_first_did(ipam):
    """SQLite's own count of the instructions that its machine runs, at 10, 500 and 1000 addresses."""
    pool = ipam.pool("10.8.0.0/22")["PoolID"]
    counted = []
    for number in range(1, 1011):
        steps = []
        if number in (10, 500, 1010):
            ipam.store._connection.set_progress_handler(lambda steps=steps: steps.append(1), 1)
        ipam.address(pool)
        ipam.store._connection.set_progress_handler(None, 0)
        counted += [len(steps)] if steps else []
    assert len(counted) == 3
    assert max(counted) <= min(counted) + 10


# --- against a model ---

SLOTS = 13  # what hosts can have in a /28 whose gateway is taken
LAST_DIGITS = range(2, 15)


class Model(RuleBasedStateMachine):
    """A /28 in use, beside a list of what is held and the last one that went out in turn."""

    @initialize()
    def start(self):
        self.folder = TemporaryDirectory()
        self.ipam = Ipam(Path(self.folder.name))
        self.pool = self.ipam.pool("10.9.0.0/28")["PoolID"]
        assert self.ipam.address(self.pool, "", GATEWAY) == "10.9.0.1/28"
        self.held, self.last = set(), 1

    def teardown(self):
        self.ipam.close()
        self.folder.cleanup()

    @precondition(lambda self: len(self.held) < SLOTS)
    @rule()
    def give(self):
        in_turn = [*range(self.last + 1, 15), *range(2, self.last + 1)]
        self.last = next(number for number in in_turn if number not in self.held)
        assert self.ipam.address(self.pool) == f"10.9.0.{self.last}/28"
        self.held.add(self.last)

    @precondition(lambda self: len(self.held) == SLOTS)
    @rule()
    def give_when_full(self):
        assert "no available IPv4 addresses" in self.ipam.address_error(self.pool)

    @rule(number=st.sampled_from(LAST_DIGITS))
    def give_a_wanted_one(self, number):
        address = f"10.9.0.{number}"
        if number in self.held:
            assert "Address already in use" in self.ipam.address_error(self.pool, address)
        else:
            assert self.ipam.address(self.pool, address) == f"{address}/28"
            self.held.add(number)

    @rule(number=st.sampled_from(LAST_DIGITS))
    def release(self, number):
        self.ipam.release(self.pool, f"10.9.0.{number}")
        self.held.discard(number)

    @rule()
    def restart(self):
        self.ipam.close()
        self.ipam = Ipam(Path(self.folder.name))

    @invariant()
    def records_say_what_is_held(self):
        records = [row.current for row in self.ipam.store.rows(ADDRESSES, parent=self.pool)]
        held = {record.address for record in records if record.held and record.role != "gateway"}
        assert held == {f"10.9.0.{number}" for number in self.held}


Model.TestCase.settings = settings(max_examples=25)
TestModel = Model.TestCase


def test_every_kind_survives_power_loss():
    assert all(kind.durable for kind in (POOLS, ADDRESSES, INSTALLATION))
