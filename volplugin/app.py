"""pyvol put together: store, kernel modules, driver, HTTP."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pluginkit.errors import PluginError
from pluginkit.events.ring import Events
from pluginkit.log import failure
from pluginkit.metrics import Metrics
from pluginkit.reconcile import Kernel
from pluginkit.server import create_admin_app, create_app
from pluginkit.service import Running
from volplugin.admin.driver import AdminDriver
from volplugin.admin.events import happenings
from volplugin.archive.driver import ArchiveDriver
from volplugin.doctor.driver import DoctorDriver
from volplugin.driver import VolumeDriver
from volplugin.instants.driver import InstantDriver
from volplugin.kernel import mountinfo
from volplugin.kernel.backing import BackingFiles
from volplugin.kernel.copies.freezing import Freezer
from volplugin.kernel.copies.snapshots import Restorations, SnapshotFiles
from volplugin.kernel.copies.staging import StagedImages
from volplugin.kernel.encryption.keys import Keys
from volplugin.kernel.filesystem import Filesystems
from volplugin.kernel.loopdev import LoopDevices
from volplugin.kernel.mounts import Mounts
from volplugin.kernel.sources import SourceDirectories
from volplugin.kernel.upkeep.checking import Checking
from volplugin.kernel.upkeep.looking import Looking
from volplugin.kernel.upkeep.mounted import MountedFilesystems
from volplugin.kernel.upkeep.trash import TrashedImages
from volplugin.kernel.usage import Usage
from volplugin.plan import SNAPSHOTS, Layout
from volplugin.pools.driver import PoolDriver
from volplugin.resources import (
    POOL_MOUNTS,
    BackingFile,
    BindMount,
    Filesystem,
    LoopDevice,
    Mount,
    Restoration,
    SnapshotFile,
    SourceDirectory,
    StagedImage,
    TrashedImage,
)
from volplugin.state import Config, open_store
from volplugin.upkeep.driver import UpkeepDriver
from volplugin.volumes import Policy, Volumes

log = logging.getLogger(__name__)


def start(config: Config) -> Running:
    """Files, loop devices and mounts are as the records say; return the app that answers from now on."""
    files = config.state_dir / "volumes"
    devices = LoopDevices(files)
    freezer = Freezer()
    sources = SourceDirectories(config.bind_roots)
    keys = Keys(config.key_roots)
    table = mountinfo.Table()
    mounted = Mounts(config.mount_root, files / POOL_MOUNTS, devices, sources, keys, table)
    kernels: Mapping[type[Any], Kernel] = {
        StagedImage: StagedImages(files),
        TrashedImage: TrashedImages(),
        BackingFile: BackingFiles(files, devices),
        Filesystem: Filesystems(devices, keys),
        SnapshotFile: SnapshotFiles(files, SNAPSHOTS, devices, freezer),
        Restoration: Restorations(devices),
        LoopDevice: devices,
        SourceDirectory: sources,
        Mount: mounted,
        BindMount: mounted,
    }
    usage = Usage(devices, keys)
    layout = Layout(files, config.mount_root)
    policy = Policy(config.default_size, config.overcommit, config.trash)
    events = Events(happenings)
    volumes = Volumes(open_store(config.state_dir), layout, kernels, usage, policy, moved=events.moved)
    driver = VolumeDriver(volumes)
    admin = AdminDriver(volumes, driver.locks, MountedFilesystems())
    archives = ArchiveDriver(volumes, driver.locks)
    upkeep = UpkeepDriver(volumes, driver.locks, Checking())
    instants = InstantDriver(volumes, driver.locks, freezer, admin)
    looking = Looking(config.state_dir, files, devices, mounted, keys, table)
    doctor = DoctorDriver(volumes, driver.locks, looking, lambda: look_after())
    pools = PoolDriver(volumes, driver.locks)
    metrics = Metrics("pyvol")

    def reconcile() -> None:
        outcome = driver.reconcile()
        metrics.reconciled(outcome)
        doctor.reconciled(outcome)
        events.reconciled(outcome)
        instants.wake()
        try:
            available, growth = usage.available(layout.disk("")), volumes.growth()
        except PluginError as exc:
            failure(log, exc)
            return
        metrics.measured("disk_available_bytes", "Bytes available on the disk of the volumes.", available)
        metrics.measured("volumes_growth_bytes", "Bytes by which volumes may still grow to their sizes.", growth)
        if growth > available:
            log.warning("volumes may still grow by %d bytes, and the disk has %d available", growth, available)

    def look_after() -> None:
        reconcile()
        driver.expire()

    reconcile()
    return Running(
        create_app("pyvol", ["VolumeDriver"], driver.methods(), metrics, events.failed),
        look_after,
        admin=create_admin_app(
            "pyvol",
            [
                *admin.methods(),
                *archives.methods(),
                *instants.methods(),
                *upkeep.methods(),
                *doctor.methods(),
                *pools.methods(),
                *events.methods(),
            ],
            metrics,
            events.failed,
        ),
    )
