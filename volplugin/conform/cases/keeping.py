"""What stays in a volume when containers end, and engines."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pluginkit.conform.case import expect
from volplugin.conform.case import Area
from volplugin.conform.stage import TARGET, Stage

case = Area("persistence")
_PATIENCE_S = 10.0
_COUNTS = f"i=0; while :; do i=$((i+1)); echo $i >>{TARGET}/log; done"


@case("keep-container", "docs.docker.com, volumes")
def keep_container(stage: Stage) -> None:
    """What one container wrote is there for the next one."""
    stage.create("a")
    (stage.mounted("c", "a") / "kept").write_bytes(b"k" * 100_000)
    stage.leave("c")
    expect((stage.mounted("d", "a") / "kept").read_bytes() == b"k" * 100_000, "the file is not what it was")


@case("keep-restart", "docker restart")
def keep_restart(stage: Stage) -> None:
    """What a container wrote is there when it starts again, ten times."""
    stage.create("a")
    stage.mounted("c", "a")
    for number in range(10):
        volume = stage.seen_by("c")
        found = sorted(path.name for path in volume.iterdir())
        expect(found == [str(each) for each in range(number)], f"at start {number} there is {found}")
        (volume / str(number)).write_text("x")
        stage.containers.kill("c")
        stage.containers.start("c")


@case("keep-attributes", "POSIX.1-2017, <sys/stat.h>; xattr(7)")
def keep_attributes(stage: Stage) -> None:
    """Modes, owners, times, links and extended attributes are there for the next container."""
    stage.create("a")
    file = stage.mounted("c", "a") / "file"
    file.write_text("x")
    os.chown(file, 4000, 5000)
    file.chmod(0o4751)
    os.utime(file, ns=(1_234_567_890_123_456_789, 987_654_321_987_654_321))
    os.setxattr(file, "user.note", b"\x00kept")
    os.link(file, file.with_name("other"))
    file.with_name("link").symlink_to("nowhere")
    before = _told(file)
    stage.leave("c")
    expect((after := _told(stage.mounted("d", "a") / "file")) == before, f"{before} has become {after}")


def _told(file: Path) -> tuple[object, ...]:
    told = file.stat()
    link = file.with_name("link").readlink()
    who = told.st_mode, told.st_uid, told.st_gid, told.st_mtime_ns, told.st_nlink
    return (*who, os.getxattr(file, "user.note"), str(link), file.samefile(file.with_name("other")))


@case("keep-killed", "docker kill")
def keep_killed(stage: Stage) -> None:
    """A container that is killed while it writes loses nothing that was seen of it."""
    stage.create("a")
    log = stage.mounted("c", "a", program=("/bin/sh", "-c", _COUNTS)) / "log"
    seen = _counted(log)
    stage.containers.kill("c")
    found = (stage.mounted("d", "a") / "log").read_text().split()
    expect(found[: len(seen)] == seen, "lines that had been read are gone")
    expect(found == [str(number) for number in range(1, len(found) + 1)], "there are other lines than were written")


@case("keep-engine", "docs.docker.com, plugins_volume: volumes outlive the engine")
def keep_engine(stage: Stage) -> None:
    """When the engine has started again, its volumes are listed, with what was in them, and can be removed."""
    stage.create("a")
    stage.create("b")
    (stage.mounted("c", "a") / "kept").write_text("kept")
    stage.restart_engine()
    expect({"a", "b"} <= set(stage.listed()), f"listed are {stage.listed()}")
    stage.leave("c")
    expect((stage.mounted("d", "a") / "kept").read_text() == "kept", "the file is not what it was")
    stage.leave("d")
    stage.remove("a")
    stage.remove("b")


@case("keep-engine-container", "docker start after a restart of dockerd; moby/moby#22486")
def keep_engine_container(stage: Stage) -> None:
    """A container that wrote when the engine died starts again, and finds what was seen of it."""
    stage.create("a")
    log = stage.mounted("c", "a", program=("/bin/sh", "-c", _COUNTS)) / "log"
    seen = _counted(log)
    stage.restart_engine()
    stage.containers.kill("c")
    stage.containers.start("c")
    found = (stage.seen_by("c") / "log").read_text().split()
    expect(found[: len(seen)] == seen, "lines that had been read are gone")


def _counted(log: Path) -> list[str]:
    """Return some lines of what a container writes."""
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        if log.exists() and log.stat().st_size > 2000:
            return log.read_text().split("\n")[:-1]
        time.sleep(0.02)
    expect(False, f"the container has written nothing within {_PATIENCE_S:g} s")
    return []
