"""Where machines live: in memory, since they start and die by the thousand."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.domain import SmallWorld


@pytest.fixture
def root() -> Iterator[Path]:
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as directory:
        yield Path(directory)


@pytest.fixture
def world(root: Path) -> Iterator[SmallWorld]:
    machine = SmallWorld(root)
    yield machine
    machine.close()
