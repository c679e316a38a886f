"""What podman takes from this repository for the managed plugins is what their recipe reads; the build of it all is
`make containerfile`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.packages.building import ROOT
from tests.packages.podman import own_podman

PRODUCT = ("pluginkit", "netplugin", "volplugin", "plugin-configs", "scripts")
PLACES = (".gitignore", "pyproject.toml", "README.md", "LICENSE", *PRODUCT)


def contents(folder: Path) -> dict[str, tuple[bytes, bool]]:
    """By name, what is in each file that git counts as the repository's, and whether it can be run."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "--", *PLACES],
        cwd=folder, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    files = ((name, folder / name) for name in listed)
    return {name: (path.read_bytes(), bool(path.stat().st_mode & 0o100)) for name, path in files if path.exists()}


def test_the_recipe_gets_every_file_that_it_reads(tmp_path: Path) -> None:
    with own_podman() as podman:
        podman.build(tmp_path, "--target=source")
    copied = tmp_path / "source"
    subprocess.run(["git", "init", "--quiet"], cwd=copied, check=True)
    assert contents(copied) == contents(ROOT)
