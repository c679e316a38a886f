"""What the Makefile calls: style, and how engines are fetched from whatever mirror apt is told of."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.suffix in ("", ".sh"))
CODENAME = subprocess.run(
    ["sh", "-c", '. /etc/os-release; echo "$VERSION_CODENAME"'], capture_output=True, text=True, check=True
).stdout.strip()
ONE_LINE = "deb [trusted=yes] file:{mirror} {suite} main\n"
DEB822 = "Types: deb\nURIs: file:{mirror}\nSuites: {suite}-updates {suite}\nComponents: main\nTrusted: yes\n"
PROGRAMS = ("usr/sbin/dockerd", "usr/bin/containerd", "usr/bin/containerd-shim-runc-v2")


def fetch(folder: Path, *names: str, sources: str = "", form: str = "debian.list") -> subprocess.CompletedProcess[str]:
    """Run scripts/engines with an apt that knows these sources alone."""
    parts = folder / "sources"
    parts.mkdir()
    (parts / form).write_text(sources)
    config = folder / "apt.conf"
    config.write_text(f'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{parts}";\n')
    return subprocess.run(
        [ROOT / "scripts" / "engines", folder / "engines", *names],
        env={**os.environ, "APT_CONFIG": str(config), "LC_ALL": "C"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_agrees(script: Path) -> None:
    done = subprocess.run(["shellcheck", "-x", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("form", "text"), [("debian.list", ONE_LINE), ("debian.sources", DEB822)])
def test_the_mirror_is_apts_own_and_a_missing_suite_is_named(tmp_path: Path, form: str, text: str) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    done = fetch(tmp_path, "docker-26.1", sources=text.format(mirror=mirror, suite=CODENAME), form=form)
    assert done.returncode == 1
    assert f"cannot fetch docker-26.1: apt cannot read the suite 'trixie' of file:{mirror}" in done.stderr
    assert [path.name for path in (tmp_path / "engines").iterdir()] == [".lock"]


def test_without_a_mirror_of_this_release_it_says_so(tmp_path: Path) -> None:
    done = fetch(tmp_path, "docker-28.5", sources=ONE_LINE.format(mirror=tmp_path, suite="another"))
    assert done.returncode == 1
    assert "cannot find a Debian mirror" in done.stderr


def test_an_unknown_engine_is_refused(tmp_path: Path) -> None:
    done = fetch(tmp_path, "docker-1.0")
    assert done.returncode == 1
    assert "no such engine; there are docker-26.1 docker-28.5" in done.stderr


def test_what_is_there_is_kept_without_asking_anybody(tmp_path: Path) -> None:
    for program in PROGRAMS:
        path = tmp_path / "engines" / "docker-28.5" / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o755)
    done = fetch(tmp_path, "docker-28.5")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"docker-28.5: unpacked by hand in {tmp_path}/engines/docker-28.5\n"
