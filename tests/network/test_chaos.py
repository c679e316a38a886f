"""kill -9 at random moments: after each restart the kernel is as the records say, and at the end nothing is left.

Ten kills a backend here, a hundred by `make chaos`. The seed is printed; CHAOS_SEED repeats its choices, though not the
moments at which threads and kernel take their turns.
"""

import os
import random
import secrets
import time
from collections import Counter
from pathlib import Path

import pytest

from netplugin.firewall.backends import Name
from tests.network.campaign import Engine
from tests.network.kernel_text import found, is_as_recorded, records
from tests.serving import Serving

KILLS = int(os.environ.get("CHAOS_KILLS", "10"))
ENGINES = 3


@pytest.mark.timeout(120 + 15 * KILLS)
@pytest.mark.usefixtures("netns")
@pytest.mark.parametrize("firewall", ["iptables", "nftables"])
def test_killed_at_random_moments(tmp_path: Path, firewall: Name) -> None:
    seed = os.environ.get("CHAOS_SEED") or secrets.token_hex(4)
    print(f"CHAOS_SEED={seed} CHAOS_KILLS={KILLS}")
    chance = random.Random(seed)
    empty = found()
    serving = Serving("pynet", tmp_path, "--firewall", firewall, "--reconcile-every", "3600")
    engines = [Engine(number, serving, f"{seed} {number}") for number in range(ENGINES)]
    try:
        serving.start()
        for engine in engines:
            engine.start()
        compared = 0
        for kill in range(KILLS):
            for engine in engines:
                engine.go_on()
            time.sleep(chance.uniform(0.02, 0.8))
            serving.kill(chance.choice(["both", "both", "arbiter", "worker"]))
            for engine in engines:
                engine.park()
            if serving.is_dead():
                serving.start()
            serving.wait_until_it_answers()
            compared += is_as_recorded(serving, firewall, f"after kill {kill + 1} of seed {seed}")
            assert [bug for engine in engines for bug in engine.bugs] == []
        for engine in engines:
            engine.stopping = True
            engine.go_on()
        for engine in engines:
            engine.join(60)
        for network in records(serving.state_dir)[0]:
            assert serving.ask("NetworkDriver.DeleteNetwork", {"NetworkID": network.id}) == (200, {})
        assert records(serving.state_dir) == ([], [], [])
        assert found() == empty
        assert "Traceback" not in serving.log()
        answers = sum((Counter(engine.answers) for engine in engines), Counter())
        print(f"{firewall}: {KILLS} kills, {compared} lines of the kernel compared; answers {dict(answers)}")
    finally:
        if not serving.is_dead():
            serving.stop()
