"""Two pynet on one state directory: the second refuses, and the first does not notice."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.network.engine import Engine
from tests.network.samples import NETWORK_ID
from tests.network.sandboxes import command
from tests.serving import ALONE, Serving, serve_argv


def test_a_second_plugin_is_refused_and_the_first_does_not_notice(netns: None, tmp_path: Path) -> None:
    first = Serving("pynet", tmp_path, "--reconcile-every", "3600")
    first.start()
    try:
        engine = Engine(lambda path, body: first.ask(path[1:], json.loads(body)))
        engine.create_network()
        links = command("ip", "-brief", "link")
        taken = f"cannot use the state directory {first.state_dir}: another process serves from it"
        # In a network namespace of its own it has but the state directory in common.
        for place, said in (((), "another pynet serves this network namespace"), (("unshare", "--net"), taken)):
            argv = [*place, *serve_argv("pynet", tmp_path / "second.sock", first.state_dir)]
            env = os.environ | ALONE
            second = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=env)
            assert second.returncode == 1
            [line] = second.stderr.splitlines()
            assert said in line
        assert not (tmp_path / "second.sock").exists()
        assert command("ip", "-brief", "link") == links
        engine.ok("DeleteNetwork", NetworkID=NETWORK_ID)
    finally:
        first.kill()
