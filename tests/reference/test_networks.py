"""pynet's two drivers against the simplest ones that could be, step by step, on a real kernel; restarts are kill -9.

MODEL_EXAMPLES says how many histories; `make chaos` has more.
"""

from __future__ import annotations

import os
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from netplugin.firewall.backends import Name
from tests.network.kernel_text import found, is_as_recorded, records
from tests.reference import networks, pools
from tests.reference.networks import ENDPOINTS, HOSTS, NETWORKS, PROTOCOLS, RUNS, SUBNETS, Networks
from tests.reference.pools import NUMBERS, POOLS, Pools
from tests.reference.step import Step
from tests.serving import Serving

EXAMPLES, STEPS = int(os.environ.get("MODEL_EXAMPLES", "2")), 20

network_ids, endpoint_ids = st.sampled_from(NETWORKS), st.sampled_from(ENDPOINTS)
pool_networks = st.sampled_from(POOLS)
VERBS = ("join", "leave", "revoke", "oper_info", "delete_endpoint")
# A start costs as much as twenty steps.
BETWEEN_RESTARTS = 10
# A failure is told as it was found: to make it smaller takes hundreds of histories on a real kernel.
HISTORIES = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, phases=[Phase.generate])


@pytest.mark.timeout(200 + 60 * EXAMPLES)
@pytest.mark.usefixtures("netns")
@pytest.mark.parametrize("firewall", ["iptables", "nftables"])
def test_as_the_reference_says(tmp_path: Path, firewall: Name) -> None:
    empty = found()
    serving = Serving("pynet", tmp_path, "--firewall", firewall, "--reconcile-every", "3600")
    serving.start()

    class Drivers(RuleBasedStateMachine):
        """One pynet that is asked by one engine; what is left after one history would be noticed in the next."""

        def __init__(self) -> None:
            super().__init__()
            self.networks, self.pools = Networks(), Pools()
            self.taken = 0

        def take(self, step: Step) -> None:
            self.taken += 1
            step.take(serving.ask)

        @rule(network=network_ids, subnet=st.sampled_from(SUBNETS), internal=st.booleans())
        def create_network(self, network: str, subnet: int, internal: bool) -> None:
            self.take(self.networks.create_network(network, subnet, internal))

        @rule(network=network_ids)
        def delete_network(self, network: str) -> None:
            self.take(self.networks.delete_network(network))

        @rule(network=network_ids, endpoint=endpoint_ids, host=st.sampled_from(HOSTS))
        def create_endpoint(self, network: str, endpoint: str, host: int) -> None:
            self.take(self.networks.create_endpoint(network, endpoint, host))

        @precondition(lambda self: self.networks.networks)
        @rule(data=st.data(), endpoint=endpoint_ids, host=st.sampled_from(HOSTS))
        def create_endpoint_where_one_can_be(self, data: st.DataObject, endpoint: str, host: int) -> None:
            self.take(self.networks.create_endpoint(self.draw_network(data), endpoint, host))

        @rule(network=network_ids, endpoint=endpoint_ids, verb=st.sampled_from(VERBS))
        def ask_for_some_endpoint(self, network: str, endpoint: str, verb: str) -> None:
            self.take(getattr(self.networks, verb)(network, endpoint))

        @precondition(lambda self: self.networks.endpoints)
        @rule(data=st.data(), verb=st.sampled_from(VERBS))
        def ask_for_a_known_endpoint(self, data: st.DataObject, verb: str) -> None:
            self.take(getattr(self.networks, verb)(*self.draw_endpoint(data)))

        @precondition(lambda self: self.networks.endpoints)
        @rule(data=st.data(), protocol=st.sampled_from([*PROTOCOLS]), run=st.sampled_from(RUNS))
        def publish(self, data: st.DataObject, protocol: int, run: tuple[int, int]) -> None:
            self.take(self.networks.publish(*self.draw_endpoint(data), protocol, run))

        @rule(pool=pool_networks, verb=st.sampled_from(["request_pool", "request_pool", "release_pool"]))
        def pool(self, pool: IPv4Network, verb: str) -> None:
            self.take(getattr(self.pools, verb)(pool))

        @precondition(lambda self: self.pools.pools)
        @rule(pool=pool_networks, number=st.sampled_from([0, *NUMBERS]))
        def request_address(self, pool: IPv4Network, number: int) -> None:
            self.take(self.pools.request_address(pool, number))

        @precondition(lambda self: self.pools.pools)
        @rule(pool=pool_networks, number=st.sampled_from(NUMBERS))
        def release_address(self, pool: IPv4Network, number: int) -> None:
            self.take(self.pools.release_address(pool, number))

        @rule(step=st.sampled_from([*networks.WRONG, *pools.WRONG]))
        def ask_what_is_wrong(self, step: Step) -> None:
            self.take(step)

        @precondition(lambda self: self.taken >= BETWEEN_RESTARTS and self.networks.networks)
        @rule()
        def restart(self) -> None:
            self.taken = 0
            serving.kill()
            serving.start()
            self.pools.restarted()

        @invariant()
        def kernel_and_records_are_as_the_reference(self) -> None:
            self.networks.is_recorded(serving.state_dir)
            is_as_recorded(serving, firewall, "after a step")

        def draw_network(self, data: st.DataObject) -> str:
            return data.draw(st.sampled_from(sorted(self.networks.networks)))

        def draw_endpoint(self, data: st.DataObject) -> tuple[str, str]:
            endpoint = data.draw(st.sampled_from(sorted(self.networks.endpoints)))
            return self.networks.endpoints[endpoint].network, endpoint

        def teardown(self) -> None:
            self.networks.end(serving.ask)
            self.pools.end(serving.ask)
            assert records(serving.state_dir) == ([], [], [])
            assert found() == empty

    try:
        run_state_machine_as_test(Drivers, settings=HISTORIES)
        assert "Traceback" not in serving.log()
    finally:
        if not serving.is_dead():
            serving.stop()
