"""A volume that several have at the same time: containers, `docker cp`, and many clients at once."""

from __future__ import annotations

import errno
import mmap
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path

from pluginkit.conform.case import expect
from pluginkit.engine.api import Refused
from volplugin.conform.case import Area
from volplugin.conform.stage import TARGET, Stage, at_once, status_of

case = Area("sharing and concurrency")
_ID = "docs.docker.com, plugins_volume: Mount, Unmount: ID"


@case("two-see", "docs.docker.com, volumes")
def two_see(stage: Stage) -> None:
    """What one container writes another one reads at once, by read and by mmap."""
    stage.create("a")
    one, other = stage.mounted("c", "a") / "file", stage.mounted("d", "a") / "file"
    one.write_bytes(b"1" * 5000)
    expect(other.read_bytes() == b"1" * 5000, "it reads something else")
    with one.open("r+b") as writer, other.open("rb") as reader:
        seen = mmap.mmap(reader.fileno(), 0, access=mmap.ACCESS_READ)
        writer.seek(4990)
        writer.write(b"22")
        writer.flush()
        expect(seen[4988:4994] == b"112211", "a mapping shows something else")
        seen.close()


@case("one-leaves", _ID)
def one_leaves(stage: Stage) -> None:
    """When one of two containers ends, the other one still reads and writes."""
    stage.create("a")
    stage.mounted("c", "a")
    volume = stage.mounted("d", "a")
    for number in range(3):
        stage.leave("c")
        (volume / f"{number}").write_text("x")
        expect(len(list(volume.iterdir())) == number + 1, "what it has mounted has changed")
        expect(status_of(partial(stage.remove, "a")) == HTTPStatus.CONFLICT, "it can be removed under it")
        stage.mounted("c", "a")


@case("cp-running", f"{_ID}; moby/moby#22564: docker cp mounts once more")
def cp_running(stage: Stage) -> None:
    """`docker cp` from and to a running container takes nothing away from it, ten times."""
    stage.create("a")
    volume = stage.mounted("c", "a")
    for number in range(10):
        stage.copy_in("c", f"in-{number}", b"in%d" % number)
        expect((volume / f"in-{number}").read_bytes() == b"in%d" % number, "what was copied in is not there")
        (volume / "out").write_bytes(b"out%d" % number)
        found = stage.copy_out("c", f"{TARGET}/out")
        expect(found == b"out%d" % number, f"what was copied out is {found[:20]!r}")
    stage.leave("c")
    stage.remove("a")


@case("cp-stopped", f"{_ID}; docker cp")
def cp_stopped(stage: Stage) -> None:
    """`docker cp` from and to a container that does not run works, and holds nothing afterwards."""
    stage.create("a")
    (stage.mounted("c", "a") / "out").write_bytes(b"out")
    stage.containers.kill("c")
    expect(stage.copy_out("c", f"{TARGET}/out") == b"out", "what was copied out is something else")
    stage.copy_in("c", "in", b"in")
    expect((stage.mounted("d", "a") / "in").read_bytes() == b"in", "what was copied in is not there")
    stage.leave("c")
    stage.leave("d")
    stage.remove("a")


@case("read-only", "docker run -v NAME:/volume:ro")
def read_only(stage: Stage) -> None:
    """A container that has it read-only is refused what it writes (EROFS); one that has not writes meanwhile."""
    stage.create("a")
    writable = stage.mounted("c", "a")
    protected = stage.mounted("d", "a", read_only=True)
    (writable / "file").write_text("x")
    expect((protected / "file").read_text() == "x", "it reads something else")
    try:
        (protected / "other").write_text("x")
    except OSError as exc:
        expect(exc.errno == errno.EROFS, f"it is refused by {exc}")
    else:
        expect(False, "it writes")
    (writable / "third").write_text("x")


@case("create-at-once", "moby/moby#21784")
def create_at_once(stage: Stage) -> None:
    """32 volumes are created by eight clients at once, listed, and removed at once."""
    names = [f"m{number}" for number in range(32)]
    at_once([partial(stage.create, name) for name in names])
    expect(set(names) <= set(stage.listed()), f"missing are {set(names) - set(stage.listed())}")
    at_once([partial(stage.remove, name) for name in names])
    expect(not set(names) & set(stage.listed()), f"left are {set(names) & set(stage.listed())}")


@case("create-same-at-once", "docs.docker.com, plugins_volume: Create; docker compose up")
def create_same_at_once(stage: Stage) -> None:
    """Eight clients that create the same volume at once all have it, and it is one."""
    at_once([partial(stage.create, "a")] * 8)
    expect(stage.listed().count("a") == 1, f"listed are {stage.listed()}")


@case("mount-at-once", f"{_ID}; moby/moby#21784")
def mount_at_once(stage: Stage) -> None:
    """Eight containers with one volume start at once, write, and end at once; then it can be removed."""
    stage.create("a")
    seen = at_once([partial(stage.mounted, f"c{number}", "a") for number in range(8)])
    for number, volume in enumerate(seen):
        (volume / str(number)).write_text("x")
    counts = [len(list(volume.iterdir())) for volume in seen]
    expect(counts == [8] * 8, f"they see {counts} files")
    at_once([partial(stage.leave, f"c{number}") for number in range(8)])
    stage.remove("a")


@case("churn", f"{_ID}: the last Unmount")
def churn(stage: Stage) -> None:
    """Four clients start and end containers with two volumes, five times each; a fifth one keeps what it has."""
    for name in ("a", "b"):
        stage.create(name)
    kept: dict[str, Path] = {name: stage.mounted(f"keep-{name}", name) for name in ("a", "b")}

    def comes_and_goes(client: int) -> None:
        for number in range(5):
            name = "ab"[(client + number) % 2]
            (stage.mounted(f"c{client}", name) / f"{client}-{number}").write_text(name)
            stage.leave(f"c{client}")

    at_once([partial(comes_and_goes, client) for client in range(4)])
    for name, volume in kept.items():
        found = [path.read_text() for path in volume.iterdir()]
        expect(found == [name] * 10, f"in {name} are {found}")
    for name in kept:
        stage.leave(f"keep-{name}")
        stage.remove(name)


@case("create-remove-race", "docker volume rm while another client creates")
def create_remove_race(stage: Stage) -> None:
    """Clients create and remove the same name; whoever won, afterwards it can be created, used and removed."""

    def create() -> None:
        for _ in range(5):
            with suppress(Refused):
                stage.create("a")

    def remove() -> None:
        for _ in range(5):
            with suppress(Refused):
                stage.remove("a")

    at_once([create, remove, create, remove])
    stage.create("a")
    (stage.mounted("c", "a") / "file").write_text("x")
    stage.leave("c")
    stage.remove("a")
    expect(status_of(lambda: stage.inspect("a")) == HTTPStatus.NOT_FOUND, "it is still there")
