"""What a container has on this machine: its files, its mounts, its sandbox and its conmon, made and given back."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime import kernel
from runtime.containers.mounts import Mounts, Wish
from runtime.containers.record import Container
from runtime.containers.sandboxes import Sandboxes
from runtime.containers.spec import Place, specification
from runtime.containers.users import find_user
from runtime.errors import ApiError, Failed
from runtime.images.store import Images
from runtime.process import Processes, Shim

log = logging.getLogger(__name__)


class Bundles:
    """The directories of containers: below `root` what they keep, below `run` what a reboot ends."""

    def __init__(self, images: Images, mounts: Mounts, sandboxes: Sandboxes, processes: Processes,
                 root: Path, run: Path) -> None:  # fmt: skip
        self._images, self._mounts, self._sandboxes, self._processes = images, mounts, sandboxes, processes
        self._root, self._run = root, run

    def shim(self, container: Container) -> Shim:
        """Return the container's conmon."""
        return Shim(container.id, self._run / container.id, self.log(container))

    def log(self, container: Container) -> Path:
        """Return where its output is kept."""
        return self._root / container.id / "log"

    def rootfs(self, container: Container) -> Path:
        """Return where its files are seen while they are mounted."""
        return self._root / container.id / "merged"

    def size(self, container: Container) -> int:
        """Return the bytes of the files that it has changed."""
        changed = (self._root / container.id / "upper").rglob("*")
        return sum(path.lstat().st_size for path in changed if path.is_file() and not path.is_symlink())

    def create(self, container: Container, wishes: list[Wish]) -> list[dict[str, Any]]:
        """Its directory and its volumes exist; return its MountPoints."""
        (self._root / container.id).mkdir(mode=0o710, parents=True)
        return self._mounts.create(wishes, container.id)

    def fill_volumes(self, container: Container) -> None:
        """Empty volumes have what the image has at their place."""
        self._mounts.copy_up(container, lambda: self.mount(container), lambda: self.unmount(container))

    def launch(self, container: Container) -> int:
        """Everything is mounted, the networks are joined, and the process waits to be started; return its id.

        Raises: ApiError; `release` takes away what is there by then.
        """
        shim = self.shim(container)
        shim.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        points = self._mounts.mount(container)
        place = Place(
            self.mount(container), self._sandboxes.files(container), self._sandboxes.netns(container),
            f"{self._processes.cgroup}/{container.id}", points, _init(container),
        )  # fmt: skip
        user = find_user(place.rootfs, container.config["User"], container.host.get("GroupAdd") or [])
        self._sandboxes.start(container)
        (shim.folder / "config.json").write_text(json.dumps(specification(container, place, user)))
        terminal, stdin = bool(container.config.get("Tty")), bool(container.config.get("OpenStdin"))
        keep = stdin and (terminal or not container.config.get("StdinOnce"))
        return self._processes.create(shim, terminal, stdin, keep)

    def release(self, container: Container) -> None:
        """What a running container has is given back; what fails is logged, because the end cannot be refused."""
        steps: tuple[Callable[[], None], ...] = (
            lambda: self._processes.remove(container.id),
            lambda: self._sandboxes.stop(container),
            lambda: self.unmount(container),
        )
        for step in steps:
            try:
                step()
            except ApiError as exc:
                log.warning("after the end of %s: %s", container.name, exc)
        for failure in self._mounts.unmount(container):
            log.warning("after the end of %s: %s", container.name, failure)

    def delay(self, container: Container) -> str:
        """Return why the container, told to end, has not."""
        if self.shim(container).conmon_pid() is not None:
            return f"process {container.pid} outlives SIGKILL; see what it waits for"
        users = [*container.networks, *(point["Name"] for point in container.mounts if point["Type"] == "volume")]
        return (
            f"its process has ended, but plugins have not yet taken back what it had ({', '.join(users) or 'nothing'});"
            " do they run? Try again, or see the log of pyrun"
        )

    def erase(self, container: Container, remove_anonymous: bool) -> None:
        """Nothing is left of it; with `remove_anonymous` nor of its volumes without a name."""
        self.release(container)
        for folder in (self._root / container.id, self._run / container.id):
            if folder.exists():
                shutil.rmtree(folder)
        self._mounts.release(container.id, remove_anonymous)

    def mount(self, container: Container) -> Path:
        """Its files are seen at the returned place."""
        home = self._root / container.id
        lower = [self._images.layers.path(digest) for digest in reversed(container.layers)]
        kernel.mount_overlay(self.rootfs(container), lower, home / "upper", home / "work")
        return self.rootfs(container)

    def unmount(self, container: Container) -> None:
        """Its files are not seen any more."""
        kernel.unmount(self.rootfs(container))


def _init(container: Container) -> str:
    if not container.host.get("Init"):
        return ""
    for name in ("docker-init", "tini-static", "tini", "catatonit"):
        if found := shutil.which(name):
            return found
    raise Failed("cannot start the container with --init: no docker-init, tini or catatonit in PATH; install one")
