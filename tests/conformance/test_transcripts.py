"""Every request that dockerd 20.10, 26.1 and 28.5 were recorded to send is answered, in order, as they require.

transcripts/<version>/<scenario>.jsonl: one exchange a line; commands.txt there: what was typed. The plugin that
answered then was a recorder: its answers are looked at only for what dockerd repeated from them to IPAM.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from netplugin.kinds import ADDRESSES, POOLS
from tests.conformance.dockerd import Dockerd
from tests.crash.conftest import root
from tests.crash.plugins import NetworkWorld, PluginWorld, VolumeWorld

__all__ = ["root"]

TRANSCRIPTS = Path(__file__).with_name("transcripts")
SCENARIOS = sorted(TRANSCRIPTS.glob("*/*.jsonl"))
# Members of IPAM answers that dockerd repeats in later requests.
REPEATED = ("PoolID", "LocalDefaultAddressSpace", "GlobalDefaultAddressSpace", "Address")
RECORDED_SPACES = {"LocalDefaultAddressSpace": "pynetlocal", "GlobalDefaultAddressSpace": "pynetglobal"}
# A scenario that goes on where another one ended, with the plugin killed and started again between them.
CONTINUES = {"16-plugin-restart-after": "16-plugin-restart"}


class Exchange(NamedTuple):
    """One recorded request. body: None when it was empty. recorded: what the recorder answered."""

    method: str
    headers: dict[str, str]
    body: dict[str, Any] | None
    recorded: dict[str, Any]


def exchanges(path: Path) -> Iterator[Exchange]:
    """Yield what was asked in a scenario, in order."""
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        yield Exchange(record["path"].lstrip("/"), record["headers"], record["request"], record["response"])


@pytest.fixture
def plugins(root: Path) -> Iterator[dict[str, PluginWorld]]:
    """A machine for each plugin, by the API that it implements."""
    worlds: dict[str, PluginWorld] = {}
    for made in (NetworkWorld(root), VolumeWorld(root)):
        worlds |= dict.fromkeys(made.implements, made)
    yield worlds
    for world in set(worlds.values()):
        world.close()


class Translation(dict[str, str]):
    """What the recorder had said, and what our plugin says in its place."""

    def learn(self, recorded: dict[str, Any], answer: dict[str, Any]) -> None:
        for name in REPEATED:
            if name in recorded and name in answer:
                # An address comes with a prefix length, and is given back without.
                self[recorded[name].partition("/")[0] if name == "Address" else recorded[name]] = (
                    answer[name].partition("/")[0] if name == "Address" else answer[name]
                )

    def apply(self, body: dict[str, Any] | None) -> dict[str, Any] | None:
        if body is None:
            return None
        return {name: self.get(value, value) if isinstance(value, str) else value for name, value in body.items()}


def play(scenario: Path, plugins: dict[str, PluginWorld], dockerd: Dockerd) -> None:
    """Every request of `scenario` was answered as dockerd requires."""
    translation = Translation()
    # An engine asks once and remembers, so that the question may stand in another scenario.
    spaces = plugins["IpamDriver"].client.post("/IpamDriver.GetDefaultAddressSpaces").data
    translation.learn(RECORDED_SPACES, json.loads(spaces))
    for number, exchange in enumerate(exchanges(scenario), 1):
        api = exchange.method.partition(".")[0]
        request = translation.apply(exchange.body) if api == "IpamDriver" else exchange.body
        for world in set(plugins.values()) if api == "Plugin" else [plugins[api]]:
            if exchange.method == "Plugin.Activate":
                # Each engine process sends it once, before anything else.
                world.restart_engine()
            # As on the wire: no Content-Type, a line feed after the object, nothing at all when there is none.
            body = b"" if request is None else json.dumps(request).encode() + b"\n"
            headers = {name: text for name, text in exchange.headers.items() if name != "Content-Length"}
            answer = world.client.post(f"/{exchange.method}", data=body, headers=headers)
            content = json.loads(answer.data)
            try:
                dockerd.read(exchange.method, request or {}, answer.status_code, content)
            except AssertionError as exc:
                exc.add_note(f"{scenario}:{number}: {exchange.method} {request}\n{answer.status} {answer.data!r}")
                raise
            if api == "IpamDriver":
                translation.learn(exchange.recorded, content)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[f"{path.parent.name} {path.stem}" for path in SCENARIOS])
def test_every_request_is_answered_as_dockerd_requires(scenario: Path, plugins: dict[str, PluginWorld]) -> None:
    dockerd = Dockerd()
    if earlier := CONTINUES.get(scenario.stem):
        play(scenario.with_name(f"{earlier}.jsonl"), plugins, dockerd)
        for killed in set(plugins.values()):
            revived = killed.clone()
            killed.close()
            revived.reconcile()
            plugins |= dict.fromkeys(revived.implements, revived)
    play(scenario, plugins, dockerd)
    for world in set(plugins.values()):
        world.settles()
    network, volume = plugins["NetworkDriver"], plugins["VolumeDriver"]
    if not dockerd.networks:
        assert all(network.stays_when_removed(have) for have in network.kernel.objects.values())
    if not dockerd.volumes:
        assert volume.kernel.objects == {}
    if not dockerd.pools:
        assert [row for kind in (POOLS, ADDRESSES) for row in network.store.rows(kind)] == []


def test_the_transcripts_are_all_there() -> None:
    versions = {path.name: len(list(path.glob("*.jsonl"))) for path in TRANSCRIPTS.iterdir() if path.is_dir()}
    assert versions == {"20.10.24": 15, "26.1.5": 18, "28.5.2": 18}
    methods = {exchange.method for scenario in SCENARIOS for exchange in exchanges(scenario)}
    assert len(methods) > 20


@pytest.mark.parametrize(("package", "world"), [("netplugin", NetworkWorld), ("volplugin", VolumeWorld)])
def test_what_is_claimed_is_what_was_tried(package: str, world: type[PluginWorld]) -> None:
    """Plugin.Activate's answer is a constant where the plugin is put together."""
    tree = ast.parse((Path(__file__).parents[2] / package / "app.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "create_app"]
    assert [tuple(ast.literal_eval(call.args[1])) for call in calls] == [world.implements]
