"""A network namespace for each test that asks for one, and what most want in it."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from netplugin.kernel.netlink import Netlink
from tests.network.sandboxes import CLONE_NEWNET, LIBC, Container, enter, lan


@contextmanager
def network_namespace() -> Iterator[None]:
    """Inside the block this thread is in a network namespace of its own, with loopback up, that ends with it."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if LIBC.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        os.system("ip link set lo up")
        yield
    finally:
        enter(home)
        os.close(home)


@pytest.fixture
def netns() -> Iterator[None]:
    """The test's thread is in a network namespace of its own, with loopback up, that ends with the test."""
    with network_namespace():
        yield


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def netlink(netns: None) -> Iterator[Netlink]:
    with closing(Netlink()) as netlink:
        yield netlink


@pytest.fixture
def containers(netlink: Netlink) -> Iterator[list[Container]]:
    """Three namespaces on one bridge."""
    with lan(netlink, 3) as containers:
        yield containers
