"""A network namespace for each test that asks for one."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def enter(descriptor: int) -> None:
    if LIBC.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@pytest.fixture
def netns() -> Iterator[None]:
    """The test's thread is in a network namespace of its own, with loopback up, that ends with the test."""
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
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"
