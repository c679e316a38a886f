"""What commands print with --json beside a real pynet, pyvol and etcd, and what they end with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cluster.server import Server
from tests.network.engine import Engine
from tests.network.samples import NETWORK_ID
from tests.network.sandboxes import command
from tests.serving import Serving, until
from tests.unit.test_command_lines import KNOWN, TELLING, flags, leaves, run
from tests.volume.conftest import mounts_apart
from tests.volume.serving import Service

VTEP = "10.90.0.11"
# These ask an engine for more than names; test_conform.py and integration/test_volume_admin.py have one.
OF_ENGINES = ("conform", "prune")
# Of these there are none here.
MAY_BE_EMPTY = ("ports", "snapshot ls", "schedule ls", "trash ls", "pool ls", "top")
# With no engine to ask, there is something to warn of.
ENDS_WITH = {"doctor": 1}


class Stage(NamedTuple):
    """The state directories, and where the cluster is."""

    directories: dict[str, Path]
    cluster: str


@pytest.fixture
def stage(server: Server, tmp_path: Path) -> Iterator[Stage]:
    command("ip", "addr", "add", VTEP, "dev", "lo")
    cluster = f"etcd://127.0.0.1:{server.port}"
    with mounts_apart(tmp_path):
        for program in ("pynet", "pyvol"):
            (tmp_path / program).mkdir()
        pynet = Serving("pynet", tmp_path / "pynet", "--cluster", cluster, "--vtep", VTEP)
        pynet.start()
        pyvol = Service(tmp_path / "pyvol", "--trash", "1d")
        try:
            engine = Engine(lambda path, body: pynet.ask(path[1:], json.loads(body)))
            until(lambda: engine.create_network(type="overlay", name="blue")[0] == 200, "a network of the cluster")
            engine.create_endpoint()
            for name in ("v1", "v2"):
                pyvol.call("Create", Name=name, Opts={"size": "20M"})
            pyvol.call("Remove", Name="v2")
            yield Stage({"pynet": pynet.state_dir, "pyvol": pyvol.state_dir}, cluster)
        finally:
            pynet.kill()
            pyvol.kill()


def words(program: str, name: str, stage: Stage) -> list[str]:
    """The whole command line, but for --json."""
    more = {
        "pynet inspect": [NETWORK_ID[:12]],
        "pynet explain": ["10.9.0.2", "10.9.0.1"],
        "pynet top": ["--every", "0.2"],
        "pyvol inspect": ["v1"],
        "pyvol resize": ["v1", "24M"],
        "pyvol trim": ["v1"],
        "pyvol set": ["v1", "reserve=1"],
        "pyvol undelete": ["v2"],
        "pyvol check": ["v1"],
    }.get(f"{program} {name}", [])
    known = flags(leaves(program)[name])
    given = {
        "--state-dir": str(stage.directories[program]),
        "--cluster": stage.cluster,
        "--engine": "/nonexistent",
        "--no-follow": None,
    }
    options = [word for flag, value in given.items() if flag in known for word in (flag, value) if word is not None]
    return [*name.split(), *more, *options]


def test_every_command_that_tells_something(stage: Stage) -> None:
    for program, name in TELLING:
        if name in (*OF_ENGINES, *KNOWN):
            continue
        done = run(program, *words(program, name, stage), "--json")
        assert (done.exit_code, done.stderr) == (ENDS_WITH.get(name, 0), ""), (program, name, done.output)
        lines = done.stdout.splitlines() if name == "events" else [done.stdout]
        documents = [json.loads(each) for each in lines]
        assert "\x1b" not in done.stdout
        if name not in MAY_BE_EMPTY:
            assert documents, (program, name)
            assert all(documents), (program, name)
        # Not twice what can be done but once.
        if name != "undelete":
            done = run(program, *words(program, name, stage))
            assert (done.exit_code, done.stderr) == (ENDS_WITH.get(name, 0), ""), (program, name, done.output)
            assert "\x1b" not in done.stdout
