"""Requests of every method, recorded and then made odd: each is answered, nothing breaks, and nothing is left.

HOSTILE_REQUESTS says how many; HOSTILE_SEED, which is printed, repeats a run.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import time
from pathlib import Path
from typing import Any

import pytest

from tests.hostile import ODD, altered, recorded
from tests.volume.conftest import attached_below, mounted_below
from tests.volume.serving import Service
from volplugin.options.table import OPTIONS

REQUESTS = int(os.environ.get("HOSTILE_REQUESTS", "400"))
NAMES, CALLERS = ("v1", "v2", "v3"), ("c1", "c2")
VALUES = ("true", "false", "loop", "bind", "8M", "16M", "ext4", "512", "4096", "v1", "v2@s", "0755", "1000", "noatime")
OFTEN = {"Create": 4, "Mount": 3, "Unmount": 3, "Remove": 1, "List": 1}
SLOWEST_S = 20.0


@pytest.mark.timeout(120 + REQUESTS)
@pytest.mark.usefixtures("mount_namespace")
def test_whatever_is_asked_data_stays_and_nothing_else_is_touched(tmp_path: Path) -> None:
    seed = os.environ.get("HOSTILE_SEED") or secrets.token_hex(4)
    print(f"HOSTILE_SEED={seed}")
    chance = random.Random(seed)
    allowed = tmp_path / "allowed"
    (allowed / "users").mkdir(parents=True)
    (allowed / "users" / "file").write_text("kept")
    plugin = Service(tmp_path, "--bind-root", str(allowed), "--default-size", "16M")
    plugin.call("Create", Name="precious", Opts={"size": "16M"})
    (Path(plugin.call("Mount", Name="precious", ID="owner")["Mountpoint"]) / "file").write_text("kept")
    bodies = recorded("VolumeDriver")
    statuses: dict[int, int] = {}
    for _ in range(REQUESTS):
        [method] = chance.choices(sorted(bodies), [OFTEN.get(name.partition(".")[2], 2) for name in sorted(bodies)])
        body = chance.choice(bodies[method]) | {"Name": chance.choice(NAMES)}
        if "ID" in body:
            body["ID"] = chance.choice(CALLERS)
        if method == "VolumeDriver.Create":
            values = (*VALUES, str(allowed / "users"), *(odd for odd in ODD if isinstance(odd, str)))
            body["Opts"] = {option.key: chance.choice(values) for option in chance.sample(OPTIONS, chance.randrange(3))}
        if chance.random() < 0.4:
            body = altered(body, chance)
        started = time.monotonic()
        status, answer = plugin.ask(method, body)
        asked = f"{method} {json.dumps(body)[:2000]}"
        assert status in (200, 400, 500), (asked, status, answer)
        assert "internal error" not in str(answer), (asked, plugin.log()[-4000:])
        assert status == 200 or answer["Err"].startswith("cannot "), (asked, answer)
        assert time.monotonic() - started < SLOWEST_S, asked
        statuses[status] = statuses.get(status, 0) + 1
    assert len(statuses) == 3, statuses
    plugin.stop()
    plugin.start()
    assert (Path(plugin.call("Path", Name="precious")["Mountpoint"]) / "file").read_text() == "kept"
    for volume in plugin.call("List")["Volumes"]:
        _end(plugin, volume["Name"])
    assert (allowed / "users" / "file").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["allowed", "pyvol.log", "pyvol.sock", "state"]
    assert not Path("/tmp/hostile").exists()
    plugin.stop()
    assert (attached_below(plugin.state_dir), mounted_below(plugin.state_dir)) == ([], [])


def _end(plugin: Service, name: str) -> None:
    """The volume is gone, once those who have it mounted have given it up."""
    mounts: dict[str, Any] = plugin.status(name).get("mounts", {})
    for caller, count in mounts.items():
        for _ in range(count):
            plugin.call("Unmount", Name=name, ID=caller)
    plugin.call("Remove", Name=name)
