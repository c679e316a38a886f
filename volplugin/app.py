"""pyvol put together: store, kernel modules, driver, HTTP."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pluginkit.errors import PluginError
from pluginkit.log import failure
from pluginkit.metrics import Metrics
from pluginkit.reconcile import Kernel
from pluginkit.server import create_app
from pluginkit.service import Running
from pluginkit.store import Store
from volplugin.capacity import NEVER, Overcommit
from volplugin.driver import ATTACHMENT, VOLUME, VolumeDriver
from volplugin.kernel import mounts
from volplugin.kernel.backing import BackingFiles
from volplugin.kernel.filesystem import Filesystems
from volplugin.kernel.loopdev import LoopDevices
from volplugin.kernel.mounts import Mounts
from volplugin.kernel.sources import SourceDirectories
from volplugin.kernel.usage import Usage
from volplugin.plan import Layout
from volplugin.resources import BackingFile, BindMount, Filesystem, LoopDevice, Mount, SourceDirectory

log = logging.getLogger(__name__)

STATE_FILE = "pyvol.db"


@dataclass(frozen=True)
class Config:
    """What the administrator decides. bind_roots: below these, users may have directories of the host mounted."""

    state_dir: Path
    mount_root: Path
    bind_roots: tuple[Path, ...]
    default_size: int
    overcommit: Overcommit = NEVER


def check(config: Config) -> None:
    """The records are readable and the mount root is ours.

    Raises: StateError.
    """
    open_store(config.state_dir).close()
    mounts.claim_root(config.mount_root)


def open_store(state_dir: Path) -> Store:
    """Return the records below `state_dir`.

    Raises: StateError: they cannot be used.
    """
    return Store(state_dir / STATE_FILE, (VOLUME, ATTACHMENT))


def start(config: Config) -> Running:
    """Files, loop devices and mounts are as the records say; return the app that answers from now on."""
    volumes = config.state_dir / "volumes"
    devices = LoopDevices(volumes)
    sources = SourceDirectories(config.bind_roots)
    mounted = Mounts(config.mount_root, devices, sources)
    kernels: Mapping[type[Any], Kernel] = {
        BackingFile: BackingFiles(volumes, devices),
        Filesystem: Filesystems(),
        LoopDevice: devices,
        SourceDirectory: sources,
        Mount: mounted,
        BindMount: mounted,
    }
    layout = Layout(volumes, config.mount_root)
    usage = Usage(volumes, devices)
    driver = VolumeDriver(open_store(config.state_dir), layout, kernels, usage, config.default_size, config.overcommit)
    metrics = Metrics("pyvol")

    def reconcile() -> None:
        metrics.reconciled(driver.reconcile())
        try:
            available, growth = driver.disk()
        except PluginError as exc:
            failure(log, exc)
            return
        metrics.measured("disk_available_bytes", "Bytes available on the disk of the volumes.", available)
        metrics.measured("volumes_growth_bytes", "Bytes by which volumes may still grow to their sizes.", growth)
        if growth > available:
            log.warning("volumes may still grow by %d bytes, and the disk has %d available", growth, available)

    reconcile()
    return Running(create_app("pyvol", ["VolumeDriver"], driver.methods(), metrics), reconcile)
