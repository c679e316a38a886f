"""Every request that dockerd 20.10, 26.1 and 28.5 were recorded to send is answered, in order, as they require.

transcripts/<version>/<scenario>.jsonl: one exchange a line; commands.txt there: what was typed. The plugin that
answered then was a recorder: its answers are not looked at, only what dockerd asked.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conformance.dockerd import Dockerd
from tests.crash.conftest import root
from tests.crash.plugins import NetworkWorld, PluginWorld, VolumeWorld

__all__ = ["root"]

TRANSCRIPTS = Path(__file__).with_name("transcripts")
SCENARIOS = sorted(TRANSCRIPTS.glob("*/*.jsonl"))
# What is not sent, by API, and why.
LEFT_OUT = {"IpamDriver": "pynet has no IPAM driver yet, and must not say that it has"}
# A scenario that goes on where another one ended, with the plugin killed and started again between them.
CONTINUES = {"16-plugin-restart-after": "16-plugin-restart"}


class Exchange(NamedTuple):
    """One recorded request. body: None when it was empty."""

    method: str
    headers: dict[str, str]
    body: dict[str, Any] | None


def exchanges(path: Path) -> Iterator[Exchange]:
    """Yield what was asked in a scenario, in order."""
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        yield Exchange(record["path"].lstrip("/"), record["headers"], record["request"])


@pytest.fixture
def plugins(root: Path) -> Iterator[dict[str, PluginWorld]]:
    """A machine for each plugin, by the API that it implements."""
    worlds: dict[str, PluginWorld] = {kind.implements: kind(root) for kind in (NetworkWorld, VolumeWorld)}
    yield worlds
    for world in worlds.values():
        world.close()


def play(scenario: Path, plugins: dict[str, PluginWorld], dockerd: Dockerd) -> int:
    """Return how many requests were answered as dockerd requires; any other answer fails the test."""
    sent = 0
    for number, exchange in enumerate(exchanges(scenario), 1):
        api = exchange.method.partition(".")[0]
        if api in LEFT_OUT:
            continue
        for world in plugins.values() if api == "Plugin" else [plugins[api]]:
            if exchange.method == "Plugin.Activate":
                # Each engine process sends it once, before anything else.
                world.restart_engine()
            # As on the wire: no Content-Type, a line feed after the object, nothing at all when there is none.
            body = b"" if exchange.body is None else json.dumps(exchange.body).encode() + b"\n"
            headers = {name: text for name, text in exchange.headers.items() if name != "Content-Length"}
            answer = world.client.post(f"/{exchange.method}", data=body, headers=headers)
            try:
                dockerd.read(exchange.method, exchange.body or {}, answer.status_code, json.loads(answer.data))
            except AssertionError as exc:
                exc.add_note(f"{scenario}:{number}: {exchange.method} {exchange.body}\n{answer.status} {answer.data!r}")
                raise
            sent += 1
    return sent


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[f"{path.parent.name} {path.stem}" for path in SCENARIOS])
def test_every_request_is_answered_as_dockerd_requires(scenario: Path, plugins: dict[str, PluginWorld]) -> None:
    dockerd = Dockerd()
    if earlier := CONTINUES.get(scenario.stem):
        play(scenario.with_name(f"{earlier}.jsonl"), plugins, dockerd)
        for api, world in list(plugins.items()):
            plugins[api] = world.clone()
            world.close()
            plugins[api].reconcile()
    assert play(scenario, plugins, dockerd) or set(LEFT_OUT) >= {e.method.split(".")[0] for e in exchanges(scenario)}
    for world in plugins.values():
        world.settles()
    if not dockerd.networks:
        lasting = plugins["NetworkDriver"].stays_when_removed
        assert all(lasting(have) for have in plugins["NetworkDriver"].kernel.objects.values())
    if not dockerd.volumes:
        assert plugins["VolumeDriver"].kernel.objects == {}


def test_the_transcripts_are_all_there() -> None:
    versions = {path.name: len(list(path.glob("*.jsonl"))) for path in TRANSCRIPTS.iterdir() if path.is_dir()}
    assert versions == {"20.10.24": 15, "26.1.5": 18, "28.5.2": 18}
    methods = {exchange.method for scenario in SCENARIOS for exchange in exchanges(scenario)}
    assert len(methods) > 20


@pytest.mark.parametrize("package", ["netplugin", "volplugin"])
def test_nothing_that_is_left_out_is_claimed(package: str) -> None:
    """Plugin.Activate's answer is a constant where the plugin is put together."""
    tree = ast.parse((Path(__file__).parents[2] / package / "app.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "create_app"]
    claimed = [ast.literal_eval(call.args[1]) for call in calls]
    kind = NetworkWorld if package == "netplugin" else VolumeWorld
    assert claimed == [[kind.implements]]
    assert not set(LEFT_OUT) & {api for claim in claimed for api in claim}
