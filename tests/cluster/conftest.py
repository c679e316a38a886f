"""A network namespace and an etcd for each test that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from netplugin.cluster import etcd as client
from tests.cluster.server import Server
from tests.network.conftest import netlink, netns, state_dir

__all__ = ["netlink", "netns", "state_dir"]


@pytest.fixture
def server(netns: None, tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def etcd(server: Server) -> client.Etcd:
    return client.Etcd(client.Access((client.Server("127.0.0.1", server.port),)))
