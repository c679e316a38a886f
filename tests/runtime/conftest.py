"""Real plugins, each test with its own, on sockets below a folder of its own."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from integration.lab import image
from runtime.networks.networks import Networks
from runtime.plugins.registry import Plugins
from runtime.state import State
from tests.network.conftest import netns
from tests.runtime.bare import Bare
from tests.runtime.machine import Machine
from tests.serving import Serving
from tests.volume.conftest import mount_namespace

__all__ = ["mount_namespace", "netns"]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with closing(State(tmp_path / "pyrun.db")) as state:
        yield state


@pytest.fixture
def sockets(tmp_path: Path) -> Path:
    folder = tmp_path / "plugins"
    folder.mkdir()
    return folder


@pytest.fixture
def plugins(state: State, sockets: Path, tmp_path: Path) -> Plugins:
    return Plugins(state, sockets, (tmp_path / "specs",))


@pytest.fixture
def pyvol(mount_namespace: None, sockets: Path) -> Iterator[Serving]:
    serving = Serving("pyvol", sockets)
    serving.start()
    try:
        yield serving
    finally:
        serving.kill()


@pytest.fixture
def pynet(netns: None, mount_namespace: None, sockets: Path) -> Iterator[Serving]:
    folder = sockets.parent / "pynet"
    folder.mkdir()
    serving = Serving("pynet", folder)
    (sockets / "pynet.sock").symlink_to(serving.socket)
    serving.start()
    try:
        yield serving
    finally:
        serving.kill()


@pytest.fixture
def networks(state: State, plugins: Plugins, pynet: Serving) -> Iterator[Networks]:
    with closing(Networks(state, plugins)) as networks:
        yield networks


@pytest.fixture
def containers(pynet: Serving, tmp_path: Path) -> Iterator[list[Bare]]:
    """Three of them, named c1 to c3."""
    made = []
    try:
        made = [Bare(tmp_path, f"c{number}") for number in (1, 2, 3)]
        yield made
    finally:
        for bare in made:
            bare.close()


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("machine"))
    try:
        archive = made.root / "lab.tar"
        archive.write_bytes(image.tar())
        made.daemon.start()
        made.docker("import", str(archive), "lab")
        yield made
    finally:
        made.close()
