"""Hosts that are cut off, lose answers, are killed, forgotten and come back, while containers come and go.

PARTITIONS_EXAMPLES says how many such stories, PARTITIONS_STEPS how long they are.
"""

import os
import tempfile
import time
from contextlib import suppress
from itertools import combinations
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from netplugin.cluster import keys, operate
from netplugin.cluster.etcd import Delete
from pluginkit.errors import Conflict, NotFound
from tests.cluster.hosts import Host, Refused, wait_until

EXAMPLES = int(os.environ.get("PARTITIONS_EXAMPLES", "4"))
STEPS = int(os.environ.get("PARTITIONS_STEPS", "20"))
SUBNET = "10.61.0.0/26"
HOSTS = st.integers(0, 2)
# Some of them lie in blocks that hosts have, some in nobody's.
ADDRESSES = st.sampled_from([f"10.61.0.{last}" for last in (2, 3, 9, 10, 17, 18, 40, 41)])

# On each host; an engine has each name once.
NAMES = st.sampled_from(["ann", "bob", "cat", "dan", "eve", "fay"])


class Partitions(RuleBasedStateMachine):
    """What dockerd believes of each host is in its `containers`, whatever etcd has heard of it."""

    server, etcd = None, None

    def __init__(self):
        super().__init__()
        self.etcd.transact([], [Delete(keys.PREFIX, every=True)])
        self.root = tempfile.TemporaryDirectory()
        self.hosts = [Host(Path(self.root.name), self.server.port, number) for number in (1, 2, 3)]
        for host in self.hosts:
            wait_until(host.agent._is_connected)
            host.create("blue", SUBNET)
        for host in self.hosts:
            wait_until(host.blocks)

    @rule(where=HOSTS, name=NAMES)
    def run(self, where, name):
        if name not in self.hosts[where].containers:
            with suppress(Refused):
                self.hosts[where].run(name)

    @rule(where=HOSTS, address=ADDRESSES, name=NAMES)
    def run_with_an_address(self, where, address, name):
        if name not in self.hosts[where].containers:
            with suppress(Refused):
                assert self.hosts[where].run(name, address=address) == address

    @rule(where=HOSTS, which=st.integers(0, 9))
    def stop(self, where, which):
        host = self.hosts[where]
        if host.containers:
            host.stop(sorted(host.containers)[which % len(host.containers)])

    @rule(where=HOSTS)
    def cut(self, where):
        self.hosts[where].line.cut()

    @rule(where=HOSTS)
    def lose_answers(self, where):
        self.hosts[where].line.is_deaf = True

    @rule(where=HOSTS)
    def heal(self, where):
        self.hosts[where].line.heal()

    @rule(where=HOSTS)
    def kill_and_start(self, where):
        self.hosts[where].restart()

    @rule()
    def compact(self):
        self.server.ctl("put", "something", "else")
        self.server.ctl("compact", str(self.server.revision()))

    @precondition(lambda self: any(host.line.is_cut for host in self.hosts))
    @rule()
    def forget_the_silent(self):
        for host in self.hosts:
            if host.line.is_cut:
                # As if its lease had ended.
                self.etcd.transact([], [Delete(keys.alive_key(f"h{host.number}"))])
                with suppress(Conflict, NotFound):
                    operate.forget(self.etcd, f"h{host.number}", off=False)

    @invariant()
    def nobody_has_what_another_has(self):
        given = [address for host in self.hosts for *_, address in host.containers.values()]
        assert len(given) == len(set(given))
        for one, other in combinations(self.hosts, 2):
            assert one.blocks().isdisjoint(other.blocks())

    def teardown(self):
        try:
            for host in self.hosts:
                host.line.heal()
                host.agent.look_again()
            wait_until(self.all_views_agree, 20)
            for host in self.hosts:
                for container in list(host.containers):
                    host.stop(container)
                host.remove("blue")
            wait_until(lambda: {key.split("/")[3] for key in self.server.all_keys()} <= {"host", "alive"})
        finally:
            for host in self.hosts:
                host.close()
            self.root.cleanup()

    def all_views_agree(self):
        there = {entry.key.rpartition("/")[2] for entry in self.etcd.list(f"{keys.PREFIX}address/").entries}
        places = {(address, str(host.vtep)) for host in self.hosts for address in host.own()}
        return there == {address for address, _ in places} and all(
            host.others() == {place for place in places if place[1] != str(host.vtep)} for host in self.hosts
        )


def test_no_address_is_given_twice_and_all_views_agree_in_the_end(server, etcd):
    Partitions.server, Partitions.etcd = server, etcd
    few = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # Threads do not repeat themselves, so a story is not made shorter.
        phases=[Phase.generate],
    )
    began = time.monotonic()
    run_state_machine_as_test(Partitions, settings=few)
    print(f"{EXAMPLES} stories in {time.monotonic() - began:.0f} s")
