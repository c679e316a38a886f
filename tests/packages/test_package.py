"""The package, built and installed where this is run, in a copy of its root that is thrown away. No systemd runs there:
what is started, and what docker says to it, is for `make packages`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages import building

PROGRAMS = ("pynet", "pyvol", "pyrun")


class Copy:
    """The machine's own root as it is now; what is written there is not written here."""

    def __init__(self, scratch: Path) -> None:
        """Nothing is mounted but while a command runs."""
        self._upper, work, self._merged = (scratch / name for name in ("upper", "work", "merged"))
        for folder in (self._upper, work, self._merged):
            folder.mkdir()
        self._mounting = f"mount -t overlay overlay -o lowerdir=/,upperdir={self._upper},workdir={work} {self._merged}"

    def run(self, script: str) -> str:
        """The shell script has succeeded; all that it said."""
        prepare = (
            f"{self._mounting} && mount -t tmpfs tmpfs {self._merged}/run && mount --rbind /dev {self._merged}/dev"
        )
        inside = f"mount -t proc proc /proc\nset -e\n{script}"
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--net", "--kill-child", "sh", "-c",
             f'{prepare} && exec chroot {self._merged} sh -c "$0"', inside],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    # On a file system of its own: an overlay's upper directory must not lie on another overlay, as /tmp may.
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", scratch], check=True)
    yield Copy(scratch)
    subprocess.run(["umount", scratch], check=True)


def lint(package: Path) -> None:
    """lintian has nothing to complain of."""
    command = ["lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.timeout(600)
def test_built_linted_installed_upgraded_removed_purged(copy: Copy, tmp_path: Path) -> None:
    """One test: building the package is what takes the time."""
    package = building.build_package(tmp_path / "deb")
    lint(package)
    listed = subprocess.run(["dpkg-deb", "--contents", package], capture_output=True, text=True, check=True).stdout
    assert all(" root/root " in line for line in listed.splitlines())
    older = building.of_version(package, "0.0.9-1", tmp_path)
    copy.run(f"""
        dpkg --no-triggers -i {older}
        for program in {" ".join(PROGRAMS)}; do
            $program --help >/dev/null
            man --warnings $program >/dev/null
        done
        test -d /usr/lib/pynet-pyvol/netplugin/__pycache__
        systemd-analyze verify pynet.service pyvol.service
        systemctl is-enabled pynet.socket pyvol.socket pynet.service pyvol.service
        echo 'firewall = "iptables"' >>/etc/pynet/pynet.toml
        systemctl disable pyvol.service
        mkdir -p /var/lib/pynet /var/lib/pyvol/volumes /var/lib/pyvol/mnt
        echo records >/var/lib/pynet/pynet.db
        echo data >/var/lib/pyvol/volumes/notes.img
        touch /var/lib/pyvol/mnt/.pyvol
    """)
    copy.run(f"""
        dpkg --no-triggers -i {package}
        grep -q iptables /etc/pynet/pynet.toml
        systemctl is-enabled pynet.service
        ! systemctl is-enabled pyvol.service
    """)
    copy.run("""
        dpkg --no-triggers --remove pynet-pyvol
        ! test -e /usr/lib/pynet-pyvol
        ! test -e /usr/bin/pynet
        test -e /var/lib/pynet/pynet.db
        test -e /var/lib/pyvol/volumes/notes.img
        grep -q iptables /etc/pynet/pynet.toml
    """)
    said = copy.run("""
        dpkg --no-triggers --purge pynet-pyvol
        test -e /var/lib/pyvol/volumes/notes.img
        ! test -e /var/lib/pynet
        ! test -e /etc/pynet
        ! find /etc/systemd /var/lib/systemd | grep -E 'py(net|vol)'
    """)
    assert "/var/lib/pyvol is kept: it has the data of volumes. To delete them for good: rm -r /var/lib/pyvol" in said
