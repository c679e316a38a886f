"""The managed plugins as podman builds them from plugin-configs/Containerfile, and as `make plugins` does:
`make containerfile`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages.building import MIRROR, ROOT
from tests.packages.podman import BASE, Podman, own_podman, with_pip_as_here

NAMES = ("pynet", "pyvol")


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[Podman]:
    """It has a Debian 12 that was not pulled."""
    mirror = subprocess.run(["bash", "-c", MIRROR], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    packed = tmp_path / "debian.tar"
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", packed, mirror], check=True, timeout=600)
    with own_podman() as podman:
        podman("import", packed, BASE)
        yield podman


def programs(rootfs: Path) -> set[str]:
    """What can be run in there, by its path."""
    folders = (rootfs / folder for folder in ("bin", "sbin", "usr/bin", "usr/sbin"))
    return {str(path.relative_to(rootfs)) for folder in folders for path in folder.glob("*")}


@pytest.mark.timeout(2400)
def test_it_builds_the_same(podman: Podman, tmp_path: Path) -> None:
    built, here = tmp_path / "built", tmp_path / "here"
    podman.build(built, f"--build-arg=DEBIAN={BASE}", *with_pip_as_here(tmp_path), timeout_s=1800)
    environment = {**os.environ, "VENV": str(ROOT / ".venv")}
    subprocess.run([ROOT / "scripts" / "plugins", here], check=True, env=environment, timeout=600)
    for name in NAMES:
        assert programs(built / name / "rootfs") == programs(here / name / "rootfs") != set()
        assert (built / f"{name}.digest").read_text() == (here / f"{name}.digest").read_text()
