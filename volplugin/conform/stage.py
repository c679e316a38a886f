"""Volumes of one driver of an engine on this host, and containers that have them mounted.

What a container has mounted is reached from here by the root directory of its process (proc(5)): the very mount that
its programs see, without anything of ours in it.
"""

from __future__ import annotations

import io
import json
import shlex
import tarfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from pluginkit import command
from pluginkit.conform.case import NotOffered, expect
from pluginkit.conform.containers import SLEEP, Containers
from pluginkit.engine.api import Refused

T = TypeVar("T")
_NAME, _LABEL = "pyvol-conform", "pyvol.conform"
TARGET = "/volume"
_SHARED = "shared"
# An engine comes back in seconds, on a busy host in many of them.
_RESTART_TIMEOUT_S = 180.0
_CLIENTS = 8


class Stage:
    """Volumes of one driver of the engine on that Unix socket. Close it: then the engine has none of it any more."""

    def __init__(self, engine: Path, driver: str, *, size_option: str, restart: str, seed: int) -> None:
        """restart: the command by which the engine starts again; "": nobody knows one."""
        self.driver, self.seed = driver, seed
        self._size_option, self._restart = size_option, shlex.split(restart)
        self.containers = Containers(engine, _NAME, _LABEL)
        self._folders = 0
        self._mount: Path | None = None
        self.close()
        try:
            self.containers.bring_image()
            self.containers.bring_image(*_seeded(), tag="seeded")
        except BaseException:
            self.close()
            raise

    def full(self, name: str) -> str:
        """Return what the engine knows a volume of ours as."""
        return f"{_NAME}-{name}"

    def create(self, name: str, options: dict[str, str] | None = None) -> Any:
        """Return what the engine says of the volume, which there is now. Raises: Refused."""
        wish = {"Name": self.full(name), "Driver": self.driver, "DriverOpts": options or {}, "Labels": {_LABEL: ""}}
        return json.loads(self.containers.ask("POST", "/volumes/create", wish))

    def create_sized(self, name: str, size: str) -> None:
        """There is a volume that takes no more than so much.

        Raises: NotOffered: the driver has no such option, or not here.
        """
        try:
            self.create(name, {self._size_option: size})
        except Refused as exc:
            raise NotOffered(f"the engine made no volume with {self._size_option}={size}: {exc.reason}") from exc

    def inspect(self, name: str) -> Any:
        """Return what the engine says of the volume. Raises: Refused."""
        return self.containers.get(f"/volumes/{quote(self.full(name))}")

    def remove(self, name: str) -> None:
        """There is no such volume. Raises: Refused."""
        self.containers.ask("DELETE", f"/volumes/{quote(self.full(name))}")

    def listed(self) -> list[str]:
        """Return the names of our volumes that the engine lists, as often as it does."""
        told = self.containers.labelled("volumes")["Volumes"] or ()
        return sorted(volume["Name"].removeprefix(f"{_NAME}-") for volume in told)

    def mounted(
        self,
        container: str,
        volume: str,
        *,
        read_only: bool = False,
        program: tuple[str, ...] = SLEEP,
        tag: str = "latest",
    ) -> Path:
        """Return the volume as a running container sees it. Raises: Refused."""
        bind = f"{self.full(volume)}:{TARGET}{':ro' if read_only else ''}"
        host = {"NetworkMode": "none", "Binds": [bind], "VolumeDriver": self.driver}
        self.containers.run(container, host, command=program, tag=tag)
        return self.seen_by(container)

    def seen_by(self, container: str) -> Path:
        """Return what a running container has mounted."""
        return Path(f"/proc/{self.containers.pid(container)}/root{TARGET}")

    def leave(self, container: str) -> None:
        """There is no such container any more."""
        self.containers.leave(container)

    def copy_out(self, container: str, path: str) -> bytes:
        """Return a file of a container's, as `docker cp` has it. Raises: Refused."""
        packed = self.containers.ask("GET", f"/containers/{self.containers.id(container)}/archive?path={quote(path)}")
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            found = archive.extractfile(archive.getmembers()[0])
            expect(found is not None, f"{path} came as something else than a file")
            return found.read() if found else b""

    def copy_in(self, container: str, name: str, content: bytes) -> None:
        """A file is in the volume, put there as `docker cp` does. Raises: Refused."""
        packed, entry = io.BytesIO(), tarfile.TarInfo(name)
        entry.size = len(content)
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.addfile(entry, io.BytesIO(content))
        where = f"/containers/{self.containers.id(container)}/archive?path={TARGET}"
        self.containers.ask("PUT", where, packed.getvalue())

    def folder(self) -> Path:
        """Return an empty directory on a volume that a container has mounted."""
        if self._mount is None or not self._mount.is_dir():
            self.create(_SHARED)
            self._mount = self.mounted(_SHARED, _SHARED)
        self._folders += 1
        made = self._mount / f"case-{self._folders}"
        made.mkdir()
        return made

    def restart_engine(self) -> None:
        """The engine has started again. Raises: NotOffered: nobody said how."""
        if not self._restart:
            raise NotOffered("nobody said by --restart how the engine starts again")
        command.run(self._restart, timeout_s=_RESTART_TIMEOUT_S)
        self._mount = None

    def tidy(self) -> None:
        """Of the case before nothing is left, but for the volume that many share."""
        shared = self._mount
        for name in self.containers.names():
            if name != _SHARED or shared is None:
                self.leave(name)
        for name in self.listed():
            if name != _SHARED or shared is None:
                with suppress(Refused):
                    # What cannot be removed has failed the case that made it, or will be told at the end.
                    self.remove(name)

    def close(self) -> None:
        """The engine has nothing any more that carries our label, from this run or an earlier one.

        Raises: PluginError: a volume cannot be removed.
        """
        self._mount = None
        self.containers.close()
        for name in self.listed():
            self.remove(name)


def status_of(asked: Callable[[], object]) -> int:
    """Return the engine's status for something that it may refuse."""
    try:
        asked()
    except Refused as exc:
        return exc.status
    return HTTPStatus.OK


def at_once(things: list[Callable[[], T]]) -> list[T]:
    """Return what comes of all, which began in the same moment, as far as a handful of clients can.

    Raises: what the first of those has raised that failed, when all have ended.
    """
    gate = threading.Barrier(min(len(things), _CLIENTS))

    def begun(number: int, thing: Callable[[], T]) -> T:
        if number < gate.parties:
            gate.wait()
        return thing()

    with ThreadPoolExecutor(gate.parties) as clients:
        waiting = [clients.submit(begun, *each) for each in enumerate(things)]
    return [each.result() for each in waiting]


def _seeded() -> tuple[tuple[tarfile.TarInfo, bytes], ...]:
    """Return what an image has where a volume is mounted."""
    folder, file, link = tarfile.TarInfo("volume"), tarfile.TarInfo("volume/file"), tarfile.TarInfo("volume/link")
    folder.type, folder.mode, folder.uid, folder.gid = tarfile.DIRTYPE, 0o750, 1234, 2345
    file.mode, file.uid, file.gid, file.size = 0o640, 1234, 2345, 4
    link.type, link.linkname = tarfile.SYMTYPE, "file"
    return (folder, b""), (file, b"seed"), (link, b"")
