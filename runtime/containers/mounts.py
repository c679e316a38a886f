"""What is mounted into a container: read from the options, made when it is created, mounted when it starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime import kernel
from runtime.containers.record import Container
from runtime.errors import BadParameter, Unsupported
from runtime.volumes import Volumes

_PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared")


@dataclass(frozen=True)
class Wish:
    """One mount as it was asked for. kind: bind, volume or tmpfs."""

    kind: str
    source: str
    target: str
    mode: str = ""
    read_only: bool = False
    propagation: str = ""
    copy: bool = True
    make_source: bool = False
    driver: str = ""
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


def parse_mounts(config: Mapping[str, Any], host: Mapping[str, Any], find: Callable[[str], Container]) -> list[Wish]:
    """Return every mount that the options ask for, one for a target; `VOLUME`s of the image where nothing else is.

    find: returns the container that `--volumes-from` names.

    Raises: BadParameter, Unsupported.
    """
    driver = str(host.get("VolumeDriver") or "")
    wishes = [_parse_bind(text, driver) for text in host.get("Binds") or []]
    wishes += [_parse_mount(mount, driver) for mount in host.get("Mounts") or []]
    targets = [wish.target for wish in wishes] + [_target(path) for path in host.get("Tmpfs") or {}]
    for target in targets:
        if targets.count(target) > 1:
            raise BadParameter(f"Duplicate mount point: {target}")
    # What was asked for by itself counts more than what comes with another container.
    for text in host.get("VolumesFrom") or []:
        wishes += [wish for wish in _inherit(text, find) if wish.target not in {each.target for each in wishes}]
    targets += [wish.target for wish in wishes]
    volumes = [_target(path) for path in config.get("Volumes") or {}]
    return wishes + [Wish("volume", "", path, driver=driver) for path in volumes if path not in targets]


def _inherit(text: str, find: Callable[[str], Container]) -> list[Wish]:
    name, _, mode = text.partition(":")
    if mode not in ("", "ro", "rw"):
        raise BadParameter(f"invalid mode: {mode} in --volumes-from {text}; use ro or rw")
    return [
        Wish(
            point["Type"], point.get("Name") or point["Source"], point["Destination"],
            point.get("Options") or point["Mode"],
            mode == "ro" or not point["RW"], point["Propagation"], copy=False, driver=point.get("Driver", ""),
        )
        for point in find(name).mounts
    ]  # fmt: skip


def _parse_bind(text: str, driver: str) -> Wish:
    parts = text.split(":")
    if len(parts) not in (2, 3) or not parts[0]:
        raise BadParameter(f"invalid volume specification: '{text}'; write SOURCE:TARGET[:OPTIONS]")
    source, target, mode = parts[0], _target(parts[1]), parts[2] if len(parts) == 3 else ""
    options = [option for option in mode.split(",") if option]
    propagation = [option for option in options if option in _PROPAGATIONS]
    unknown = set(options) - {"ro", "rw", "z", "Z", "nocopy", *_PROPAGATIONS}
    kind = "bind" if source.startswith("/") else "volume"
    if unknown or len(propagation) > 1 or {"ro", "rw"} <= set(options) or (kind == "volume" and propagation):
        raise BadParameter(f"invalid mode: {mode} in '{text}'")
    return Wish(
        kind, os.path.normpath(source) if kind == "bind" else source, target, mode, "ro" in options,
        propagation[0] if propagation else "", "nocopy" not in options, make_source=True, driver=driver,
    )  # fmt: skip


def _parse_mount(asked: Mapping[str, Any], driver: str) -> Wish:
    kind, source, target = str(asked.get("Type")), str(asked.get("Source") or ""), _target(str(asked.get("Target")))
    read_only = bool(asked.get("ReadOnly"))
    allowed: dict[str, tuple[str, set[str]]] = {
        "bind": ("BindOptions", {"Propagation", "CreateMountpoint"}),
        "volume": ("VolumeOptions", {"NoCopy", "Labels", "DriverConfig"}),
        "tmpfs": ("TmpfsOptions", {"SizeBytes", "Mode"}),
    }
    if kind not in allowed:
        raise Unsupported(f"cannot mount {target}: pyrun has no mounts of type {kind!r}; use bind, volume or tmpfs")
    name, known = allowed[kind]
    options = asked.get(name) or {}
    for key, value in options.items():
        if key not in known and value:
            raise Unsupported(f"cannot mount {target}: pyrun has no {name}.{key}")
    if kind == "bind":
        if not source.startswith("/"):
            raise BadParameter(
                f"invalid mount config for type \"bind\": invalid mount path: '{source}' must be absolute"
            )
        return Wish(kind, os.path.normpath(source), target, "", read_only, str(options.get("Propagation") or ""),
                    make_source=bool(options.get("CreateMountpoint")))  # fmt: skip
    if kind == "tmpfs":
        mode = [f"size={options['SizeBytes']}"] if options.get("SizeBytes") else []
        mode += [f"mode={options['Mode']:o}"] if options.get("Mode") else []
        return Wish(kind, "", target, ",".join([*mode, *(["ro"] if read_only else [])]), read_only)
    configuration = options.get("DriverConfig") or {}
    return Wish(
        kind, source, target, "z", read_only, copy=not options.get("NoCopy"),
        driver=str(configuration.get("Name") or driver), options=dict(configuration.get("Options") or {}),
        labels=dict(options.get("Labels") or {}),
    )  # fmt: skip


def _target(path: str) -> str:
    if not path.startswith("/") or os.path.normpath(path) == "/" or ".." in path.split("/"):
        raise BadParameter(f"invalid mount path: '{path}' must be absolute, and not '/'")
    return os.path.normpath(path)


class Mounts:
    """What containers mount, by way of the volumes' drivers."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def create(self, wishes: list[Wish], container_id: str) -> list[dict[str, Any]]:
        """The volumes exist, referred to by the container; return MountPoints. A missing source of `-v` is made.

        Raises: BadParameter and what the volumes' drivers raise.
        """
        return [self._create(wish, container_id) for wish in wishes]

    def _create(self, wish: Wish, container_id: str) -> dict[str, Any]:
        point = {
            "Type": wish.kind, "Source": wish.source, "Destination": wish.target, "Mode": wish.mode,
            "RW": not wish.read_only, "Propagation": wish.propagation,
        }  # fmt: skip
        if wish.kind == "bind":
            if not Path(wish.source).exists():
                if not wish.make_source:
                    raise BadParameter(
                        f'invalid mount config for type "bind": bind source path does not exist: {wish.source}'
                    )
                Path(wish.source).mkdir(parents=True)
            return {**point, "Propagation": wish.propagation or "rprivate"}
        if wish.kind == "tmpfs":
            return {**point, "Mode": "", "Options": wish.mode}
        body = {"Name": wish.source, "Driver": wish.driver, "DriverOpts": wish.options, "Labels": wish.labels}
        volume = self._volumes.create(body, users=[container_id])
        return {
            **point, "Name": volume["Name"], "Driver": volume["Driver"], "Source": volume.get("Mountpoint", ""),
            "Copy": wish.copy,
        }  # fmt: skip

    def copy_up(self, container: Container, seen: Callable[[], Path], gone: Callable[[], None]) -> None:
        """Empty volumes have what the image has at their place. `seen` mounts its files, `gone` unmounts them."""
        wanted = [point for point in container.mounts if point["Type"] == "volume" and point["Copy"]]
        if not wanted:
            return
        rootfs = seen()
        try:
            for point in wanted:
                if not _has(rootfs, point["Destination"]):
                    continue
                folder = self._volumes.mount(point["Name"], container.id)
                try:
                    _copy_into(rootfs, point["Destination"], folder)
                finally:
                    self._volumes.unmount(point["Name"], container.id)
        finally:
            gone()

    def mount(self, container: Container) -> list[dict[str, Any]]:
        """Every volume is mounted for the container; return its MountPoints with the places. All or none.

        Raises: what the volumes' drivers raise; BadParameter: a directory of the host is gone.
        """
        done: list[dict[str, Any]] = []
        try:
            for point in container.mounts:
                if point["Type"] == "volume":
                    done.append({**point, "Source": str(self._volumes.mount(point["Name"], container.id))})
                elif point["Type"] == "bind" and not Path(point["Source"]).exists():
                    raise BadParameter(f"cannot start {container.name}: bind source path {point['Source']} is gone")
                else:
                    done.append(point)
        except BaseException:
            self.unmount(container, [point["Name"] for point in done if point["Type"] == "volume"])
            raise
        return done

    def unmount(self, container: Container, names: list[str] | None = None) -> list[Exception]:
        """No volume (or none of the `names`) is mounted for the container; return what failed."""
        failures: list[Exception] = []
        for point in reversed(container.mounts):
            if point["Type"] == "volume" and (names is None or point["Name"] in names):
                try:
                    self._volumes.unmount(point["Name"], container.id)
                except Exception as exc:  # noqa: BLE001 - the others are unmounted all the same
                    failures.append(exc)
        return failures

    def release(self, container_id: str, remove_anonymous: bool) -> None:
        """The container refers to no volume; with `remove_anonymous` those without a name are gone, with data."""
        self._volumes.release(container_id, remove_anonymous)


def _has(rootfs: Path, path: str) -> bool:
    """Whether the image has a directory there: without one the driver need not be asked to mount."""
    try:
        os.close(kernel.open_in_root(rootfs, path, os.O_PATH | os.O_DIRECTORY))
    except OSError:
        return False
    return True


def _copy_into(rootfs: Path, path: str, folder: Path) -> None:
    # A fresh ext4 has lost+found, and is as good as empty.
    if any(entry.name != "lost+found" for entry in folder.iterdir()):
        return
    try:
        descriptor = kernel.open_in_root(rootfs, path, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return
    try:
        source = Path(f"/proc/self/fd/{descriptor}").readlink()
        for entry in source.iterdir():
            _copy(entry, folder / entry.name)
        _own(source, folder)
    finally:
        os.close(descriptor)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        target.mkdir()
        for entry in source.iterdir():
            _copy(entry, target / entry.name)
        _own(source, target)
    elif source.is_symlink() or source.is_file():
        shutil.copy2(source, target, follow_symlinks=False)
        _own(source, target)


def _own(source: Path, target: Path) -> None:
    told = source.lstat()
    os.lchown(target, told.st_uid, told.st_gid)
    if not source.is_symlink():
        target.chmod(told.st_mode & 0o7777)
