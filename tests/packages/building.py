"""The package as `make deb` builds it, another version of it, and a Debian to install it on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What a minimal Debian 12 with docker has; the rest must come with the package.
PACKAGES = "systemd,systemd-sysv,dbus,docker.io,python3,iptables,nftables,e2fsprogs,iproute2,curl"
MIRROR = ". scripts/mirror.sh && mirror"


def build_package(target: Path) -> Path:
    """The package is built in `target`."""
    environment = {**os.environ, "VENV": str(ROOT / ".venv")}
    subprocess.run([ROOT / "scripts" / "deb", target], check=True, env=environment, timeout=280)
    [package] = target.glob("*.deb")
    return package


def of_version(package: Path, version: str, target: Path) -> Path:
    """The same package, but for its version, is in `target`."""
    folder = target / version
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True)
    control = folder / "DEBIAN" / "control"
    lines = control.read_text().splitlines(keepends=True)
    control.write_text("".join(f"Version: {version}\n" if line.startswith("Version:") else line for line in lines))
    built = target / f"pynet-pyvol_{version}.deb"
    # Made for a test and thrown away: not worth compressing.
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", folder, built], check=True)
    return built


def debian(target: Path) -> Path:
    """A Debian 12 that nobody has booted yet is in the folder `target`; it is made once."""
    if not (target / "etc/debian_version").exists():
        mirror = subprocess.run(["bash", "-c", MIRROR], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        fresh = target.with_name(f"{target.name}.new")
        subprocess.run(["rm", "-rf", "--one-file-system", fresh], check=True)
        fresh.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}",
             '--aptopt=APT::Install-Recommends "false"', "bookworm", fresh, mirror],
            check=True, timeout=280,
        )  # fmt: skip
        # No terminal waits for anybody here, and the devices are the host's.
        for unit in ("console-getty.service", "getty@tty1.service"):
            (fresh / "etc/systemd/system" / unit).symlink_to("/dev/null")
        fresh.rename(target)
    return target
