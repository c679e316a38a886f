"""Containers of an engine on this host that do as they are told: without an image of anybody's, by one label.

The image is empty: the host's own programs run in it, since its folders are mounted into it.
"""

from __future__ import annotations

import io
import json
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pluginkit.engine import api
from pluginkit.errors import Conflict

# What a program of the host's needs; on most hosts all but the first are links into it.
_FOLDERS = ("usr", "bin", "lib", "lib64")
SLEEP = ("/usr/bin/sleep", "infinity")


class Containers:
    """What an engine has that carries a label. Close it: then there is none of it any more."""

    def __init__(self, engine: Path, name: str, label: str) -> None:
        """name: of the image, and before those of containers."""
        self._engine, self.name, self.label = engine, name, label
        self._made: dict[str, str] = {}

    def ask(self, method: str, what: str, content: Any = None) -> bytes:
        """The engine has done it; return what it says. Raises: Refused, Unavailable."""
        return api.send(self._engine, method, what, content)

    def get(self, what: str) -> Any:
        """Return what the engine says about something. Raises: Refused, Unavailable."""
        return json.loads(self.ask("GET", what))

    def bring_image(self, *files: tuple[tarfile.TarInfo, bytes], tag: str = "latest") -> None:
        """The engine has the image, with these files in it."""
        self.ask("POST", f"/images/create?fromSrc=-&repo={self.name}&tag={tag}", _image(files))

    def run(
        self,
        name: str,
        host: dict[str, Any],
        *,
        exposed: dict[str, Any] | None = None,
        command: tuple[str, ...] = SLEEP,
        tag: str = "latest",
    ) -> int:
        """Return the process ID of a container that runs. Raises: Refused: then there is none."""
        self.create(name, host, exposed=exposed, command=command, tag=tag)
        try:
            self.start(name)
            return self.pid(name)
        except Conflict:
            self.leave(name)
            raise

    def create(
        self,
        name: str,
        host: dict[str, Any],
        *,
        exposed: dict[str, Any] | None = None,
        command: tuple[str, ...] = SLEEP,
        tag: str = "latest",
    ) -> None:
        """There is a container, which does not run. host: as HostConfig has it. Raises: Refused."""
        binds = [f"/{folder}:/{folder}:ro" for folder in _FOLDERS if _is_folder(folder)]
        creation = {
            "Image": f"{self.name}:{tag}",
            "Cmd": command,
            "Labels": {self.label: ""},
            "ExposedPorts": exposed or {},
            "HostConfig": {**host, "Binds": [*binds, *host.get("Binds", ())]},
        }
        made = self.ask("POST", f"/containers/create?name={self.name}-{name}", creation)
        self._made[name] = str(json.loads(made)["Id"])

    def start(self, name: str) -> None:
        """It runs. Raises: Refused."""
        self.ask("POST", f"/containers/{self._made[name]}/start")

    def inspect(self, name: str) -> Any:
        """Return what the engine says of it."""
        return self.get(f"/containers/{self._made[name]}/json")

    def pid(self, name: str) -> int:
        """Return its process ID; 0: it does not run."""
        return int(self.inspect(name)["State"]["Pid"])

    def kill(self, name: str) -> None:
        """It has ended by SIGKILL."""
        with suppress(Conflict):
            # It may have ended by itself.
            self.ask("POST", f"/containers/{self._made[name]}/kill")
        self.ask("POST", f"/containers/{self._made[name]}/wait")

    def id(self, name: str) -> str:
        """Return what the engine calls it."""
        return self._made[name]

    def names(self) -> list[str]:
        """Return the names of all that were made and not left."""
        return list(self._made)

    def leave(self, name: str) -> None:
        """There is no such container, nor what was made for it alone."""
        if ident := self._made.pop(name, ""):
            self.ask("DELETE", f"/containers/{ident}?force=true&v=true")

    def labelled(self, what: str) -> Any:
        """Return all of a kind that the engine has with the label: of `networks`, `volumes`."""
        return self.get(f"/{what}?filters={quote(json.dumps({'label': [self.label]}))}")

    def close(self) -> None:
        """The engine has no container and no image of ours any more, from this run or an earlier one."""
        chosen = quote(json.dumps({"label": [self.label]}))
        for container in self.get(f"/containers/json?all=true&filters={chosen}"):
            self.ask("DELETE", f"/containers/{container['Id']}?force=true&v=true")
        for image in self.get("/images/json"):
            for tag in image["RepoTags"] or ():
                if tag.startswith(f"{self.name}:"):
                    self.ask("DELETE", f"/images/{tag}")
        self._made = {}


def _is_folder(name: str) -> bool:
    path = Path("/", name)
    return path.is_dir() and not path.is_symlink()


def _image(files: tuple[tuple[tarfile.TarInfo, bytes], ...]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in _FOLDERS:
            path, entry = Path("/", name), tarfile.TarInfo(name)
            entry.mode = 0o755
            entry.type = tarfile.SYMTYPE if path.is_symlink() else tarfile.DIRTYPE
            if path.is_symlink():
                entry.linkname = str(path.readlink())
            if path.exists():
                archive.addfile(entry)
        for entry, content in files:
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
