"""Requests of every method, recorded and then made odd: each is answered, nothing breaks, and nothing is left.

HOSTILE_REQUESTS says how many; HOSTILE_SEED, which is printed, repeats a run.
"""

import json
import os
import random
import secrets
import time
from pathlib import Path

import pytest

from netplugin.firewall.backends import Name
from netplugin.options import OPTIONS
from tests.hostile import ODD, altered, recorded
from tests.network.kernel_text import expected, found, records
from tests.serving import Serving

REQUESTS = int(os.environ.get("HOSTILE_REQUESTS", "600"))
NETWORKS, ENDPOINTS = [f"{n:02x}" * 32 for n in range(1, 4)], [f"e{n:01x}" * 32 for n in range(1, 7)]
# What makes something more often than what takes it away, so that requests meet what others have made.
OFTEN = {"CreateNetwork": 8, "CreateEndpoint": 8, "Join": 4, "ProgramExternalConnectivity": 6, "DeleteNetwork": 1}
SLOWEST_S = 10.0


@pytest.mark.timeout(120 + REQUESTS)
@pytest.mark.parametrize("firewall", ["iptables", "nftables"])
def test_whatever_is_asked_the_kernel_is_as_recorded_and_goes_back_to_what_it_was(
    netns: None, tmp_path: Path, firewall: Name
) -> None:
    seed = os.environ.get("HOSTILE_SEED") or secrets.token_hex(4)
    print(f"HOSTILE_SEED={seed}")
    chance = random.Random(f"{seed} {firewall}")
    bodies = {method: asked for what in ("NetworkDriver", "IpamDriver") for method, asked in recorded(what).items()}
    untouched = found()
    plugin = Serving("pynet", tmp_path, "--firewall", firewall)
    plugin.start()
    statuses: dict[int, int] = {}
    pools = [""]
    for _ in range(REQUESTS):
        [method] = chance.choices(sorted(bodies), [OFTEN.get(name.partition(".")[2], 2) for name in sorted(bodies)])
        body = _with_ids(chance.choice(bodies[method]), pools, chance)
        if method == "NetworkDriver.CreateNetwork":
            body = _with_options(body, chance)
        if chance.random() < 0.5:
            body = altered(body, chance)
        started = time.monotonic()
        status, answer = plugin.ask(method, body)
        asked = f"{method} {json.dumps(body)[:2000]}"
        assert status in (200, 400, 500), (asked, status, answer)
        assert "internal error" not in str(answer), (asked, plugin.log()[-4000:])
        assert status == 200 or answer["Err"].startswith("cannot "), (asked, answer)
        assert time.monotonic() - started < SLOWEST_S, asked
        pools += [answer["PoolID"]] if "PoolID" in answer else []
        statuses[status] = statuses.get(status, 0) + 1
    assert len(statuses) == 3, statuses
    plugin.stop()
    plugin.start()
    networks, endpoints, pending = records(plugin.state_dir)
    assert pending == []
    assert found() == expected(tuple(networks), tuple(endpoints), firewall)
    for endpoint in endpoints:
        assert plugin.ask("NetworkDriver.DeleteEndpoint", _ids(endpoint.network_id, endpoint.id))[0] == 200
    for network in networks:
        assert plugin.ask("NetworkDriver.DeleteNetwork", {"NetworkID": network.id})[0] == 200
    assert plugin.stop() == 0
    assert [line for line in found() if line not in untouched] == []


def _with_ids(body: dict[str, object], pools: list[str], chance: random.Random) -> dict[str, object]:
    """Return the body about one of a few networks, endpoints and pools."""
    ids = _ids(chance.choice(NETWORKS), chance.choice(ENDPOINTS))
    known = {**ids, "PoolID": pools[-1], "AddressSpace": "pylocal"}
    return {name: known.get(name, value) for name, value in body.items()}


def _with_options(body: dict[str, object], chance: random.Random) -> dict[str, object]:
    """Return the body with up to three options of ours, of which each has a value that some option takes, or none."""
    values = (*("true", "false", "nat", "routed", "isolated", "10mbit", "64k", "lan", "10.0.0.0/8", "10.9.9.9", "::1"),)
    values += (*("overlay", "10.9.9.0/24 via 10.9.0.7", "77", "9000", "blue", "lo:lo"), *filter(_is_text, ODD))
    chosen = {option.key: chance.choice(values) for option in chance.sample(OPTIONS, chance.randrange(4))}
    return body | {"Options": {"com.docker.network.generic": chosen}}


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _ids(network_id: str, endpoint_id: str) -> dict[str, str]:
    return {"NetworkID": network_id, "EndpointID": endpoint_id}
