"""The programs of managed plugins: their folders, their mounts, and one conmon each, as containers have."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from runtime import kernel
from runtime.containers import logs
from runtime.errors import Failed
from runtime.plugins.config import Place, Plugin, specification
from runtime.process import Processes, Shim

_LOG_BYTES = 4 << 20
_STOP_TIMEOUT_S, _PAUSE_S = 10.0, 0.05
_WORDS = logs.Wanted(frozenset({logs.STDOUT, logs.STDERR}), tail=10)


class Programs:
    """Below `root` lies what plugins are made of and what they keep, below `run` what a reboot ends."""

    def __init__(self, processes: Processes, root: Path, run: Path) -> None:
        self._processes, self._root, self._run = processes, root, run
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def content(self, key: str) -> Path:
        """Return where config.json and rootfs of a plugin are."""
        return self._root / key / "content"

    def keep_only(self, keys: Iterable[str]) -> None:
        """Of other plugins nothing is there."""
        for folder in self._root.iterdir():
            if folder.name not in keys:
                self.erase(folder.name)

    def on_host(self, plugin: Plugin, path: str) -> str:
        """Return what a path of the plugin is called outside of it."""
        inner, shared = PurePosixPath(path), plugin.config.propagated_mount
        if shared and inner.is_relative_to(shared):
            return str(self._root / plugin.id / "propagated" / inner.relative_to(shared))
        return str(self.content(plugin.id) / "rootfs" / path.lstrip("/"))

    def socket(self, plugin: Plugin) -> Path:
        """Return where the plugin answers."""
        return self._run / plugin.id / "sockets" / plugin.config.interface.socket

    def pid(self, plugin: Plugin) -> int | None:
        """Return the process id of the plugin's conmon, or None: it does not run."""
        return self._shim(plugin).conmon_pid()

    def start(self, plugin: Plugin) -> None:
        """The plugin, which did not run, does; whether it accepts is `wait`'s to say.

        Raises: Failed, BadParameter: with the reason of runc or the kernel.
        """
        shim, home = self._shim(plugin), self._root / plugin.id
        nodes = [_node(each.path or "") for each in plugin.settings.devices]
        place = Place(self.content(plugin.id) / "rootfs", self.socket(plugin).parent, home / "propagated",
                      f"{self._processes.cgroup}/{plugin.id}", nodes)  # fmt: skip
        self._processes.remove(plugin.id)
        place.sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.socket(plugin).unlink(missing_ok=True)
        if plugin.config.propagated_mount:
            place.propagated.mkdir(mode=0o755, exist_ok=True)
            kernel.share(place.propagated)
        (shim.folder / "config.json").write_text(json.dumps(specification(plugin, place)))
        try:
            self._processes.create(shim, terminal=False, stdin=False, keep_stdin=False)
            self._processes.start(plugin.id)
        except BaseException:
            self._processes.remove(plugin.id)
            raise

    def start_created(self, plugin: Plugin) -> None:
        """The plugin runs, if a daemon has ended between its creation and its start."""
        self._processes.start_created(plugin.id)

    def wait(self, plugin: Plugin, timeout_s: float) -> None:
        """The plugin accepts on its socket.

        Raises: Failed, with its last words: it has ended, or takes longer.
        """
        _within(timeout_s, lambda: _accepts(self.socket(plugin)) or self.pid(plugin) is None)
        if self.pid(plugin) is None:
            raise Failed(f"cannot enable plugin {plugin.name}: it has ended; {self.last_words(plugin)}")
        if not _accepts(self.socket(plugin)):
            raise Failed(
                f"cannot enable plugin {plugin.name}: it does not listen on {plugin.config.interface.socket} after"
                f" {timeout_s:g} s; {self.last_words(plugin)}"
            )

    def stop(self, plugin: Plugin) -> None:
        """Nothing of the plugin runs, and nothing that it has mounted is seen on the host.

        Raises: Failed: it outlives SIGKILL.
        """
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(Failed):  # it may have ended a moment ago
                if self.pid(plugin) is not None:
                    self._processes.signal(plugin.id, number)
            if _within(_STOP_TIMEOUT_S, lambda: self.pid(plugin) is None):
                break
        else:
            raise Failed(f"cannot stop plugin {plugin.name}: it outlives SIGKILL; see what its processes wait for")
        self._processes.remove(plugin.id)
        kernel.unmount_below(self._root / plugin.id)

    def erase(self, key: str) -> None:
        """Nothing of the plugin, which does not run, is on the disk."""
        kernel.unmount_below(self._root / key)
        for folder in (self._root / key, self._run / key):
            if folder.exists():
                shutil.rmtree(folder)

    def last_words(self, plugin: Plugin) -> str:
        """Return the end of what it has printed."""
        lines = logs.read(self._log(plugin), _WORDS, lambda: False)
        told = [line.text.decode("utf-8", "replace").strip() for line in lines if line]
        return f"its last words: {' | '.join(told)}" if told else "it has said nothing"

    def _log(self, plugin: Plugin) -> Path:
        return self._root / plugin.id / "log"

    def _shim(self, plugin: Plugin) -> Shim:
        return Shim(plugin.id, self._run / plugin.id, self._log(plugin), log_bytes=_LOG_BYTES)


def _node(path: str) -> dict[str, Any]:
    try:
        status = Path(path).stat()
    except OSError as exc:
        raise Failed(f"cannot give device {path!r} to the plugin: {exc.strerror}; set another path") from exc
    if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        raise Failed(f"cannot give device {path!r} to the plugin: it is no device; set another path")
    return {
        "path": path, "type": "c" if stat.S_ISCHR(status.st_mode) else "b", "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev), "fileMode": stat.S_IMODE(status.st_mode), "uid": status.st_uid,
        "gid": status.st_gid,
    }  # fmt: skip


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            kernel.connect(connection, path)
        except OSError:
            return False
        return True


def _within(timeout_s: float, holds: Callable[[], bool]) -> bool:
    """Wait until it holds; return False if it has not by then."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_S)
    return True
