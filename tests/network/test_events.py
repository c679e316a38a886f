"""`pynet events` of a real process in a namespace of its own: what is done to it, and what others do."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.network.engine import Engine, port
from tests.network.samples import ENDPOINT_ID, NETWORK_ID
from tests.network.sandboxes import command
from tests.serving import INTERRUPTIBLE, MORTAL, Serving, exchange, until

PYNET = Path(sys.executable).with_name("pynet")


@pytest.fixture
def serving(netns: None, tmp_path: Path) -> Iterator[Serving]:
    serving = Serving("pynet", tmp_path, "--reconcile-every", "3600")
    serving.start()
    yield serving
    serving.kill()


@pytest.fixture
def engine(serving: Serving) -> Engine:
    return Engine(lambda path, body: serving.ask(path[1:], json.loads(body)))


def events_argv(serving: Serving, *words: str) -> list[str]:
    return [str(PYNET), "events", *words, "--engine", "/nonexistent", "--state-dir", str(serving.state_dir)]


def told(serving: Serving) -> list[tuple[str, str, str, str]]:
    """Kind, what it happened to, what of, and the words."""
    lines = command(*events_argv(serving, "--no-follow", "--json")).splitlines()
    return [tuple(json.loads(line)[name] for name in ("Kind", "ID", "Of", "Text")) for line in lines]


def test_the_life_of_an_endpoint(serving: Serving, engine: Engine) -> None:
    engine.create_network()
    engine.run(port(80, 8080))
    said = engine.error("CreateNetwork", NetworkID="f" * 64, Options={}, IPv4Data=[{"Pool": "nonsense"}], IPv6Data=[])
    engine.stop()
    engine.ok("DeleteNetwork", NetworkID=NETWORK_ID)
    about = (ENDPOINT_ID, NETWORK_ID)
    assert told(serving) == [
        ("network-created", NETWORK_ID, "", "10.9.0.0/24"),
        ("endpoint-created", *about, "10.9.0.2"),
        ("container-joined", *about, ""),
        ("port-opened", *about, "0.0.0.0 8080/tcp to 80"),
        ("failed", "NetworkDriver.CreateNetwork", "", said),
        ("port-closed", *about, "0.0.0.0 8080/tcp to 80"),
        ("container-left", *about, ""),
        ("endpoint-removed", *about, ""),
        ("network-removed", NETWORK_ID, "", ""),
    ]


def test_what_others_do_is_told_and_that_it_was_put_right(serving: Serving, engine: Engine) -> None:
    engine.create_network()
    bridge = f"pn-{NETWORK_ID[:8]}"
    command("ip", "link", "del", bridge)
    until(lambda: any(kind == "drift-repaired" for kind, *_ in told(serving)), "it is put right")
    assert bridge in command("ip", "link")
    seen = [text for kind, _, _, text in told(serving) if kind == "drift-seen"]
    assert seen
    repaired = [text for kind, _, _, text in told(serving) if kind == "drift-repaired"]
    assert seen[0] in repaired[0]


def test_who_follows_is_told_at_once_until_ctrl_c(serving: Serving, engine: Engine) -> None:
    engine.create_network()
    argv = [*MORTAL, *INTERRUPTIBLE, *events_argv(serving)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stdout.readline().split()[2:] == ["network-created", NETWORK_ID[:12], "10.9.0.0/24"]
        engine.create_endpoint()
        name = f"{ENDPOINT_ID[:12]} on {NETWORK_ID[:12]}"
        assert following.stdout.readline().split(maxsplit=2)[2].split("  ") == ["endpoint-created", name, "10.9.0.2\n"]
        following.send_signal(signal.SIGINT)
        assert following.stdout.read() == ""
        assert following.wait(30) == 0


def test_the_description_of_the_socket_is_served(serving: Serving) -> None:
    status, answer = exchange(serving.state_dir / "admin.sock", "GET", "v1/openapi.json", b"")
    assert (status, answer) == (200, json.loads(command(str(PYNET), "api")))
