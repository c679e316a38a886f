"""pyrun put together."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from runtime.api import archive, changes, streaming, system
from runtime.api import containers as containers_api
from runtime.api import exec as exec_api
from runtime.api import images as images_api
from runtime.api import networks as networks_api
from runtime.api import plugins as plugins_api
from runtime.api import volumes as volumes_api
from runtime.api.server import create_app
from runtime.containers.bundles import Bundles
from runtime.containers.files import Files
from runtime.containers.index import Index
from runtime.containers.lifecycle import Containers
from runtime.containers.mounts import Mounts
from runtime.containers.sandboxes import Sandboxes
from runtime.containers.sessions import Sessions
from runtime.errors import Failed
from runtime.events import Events
from runtime.images.store import Images
from runtime.networks.networks import Networks
from runtime.plugins.managed import Managed
from runtime.plugins.programs import Programs
from runtime.plugins.registry import Plugins
from runtime.process import Processes
from runtime.service import Running
from runtime.state import State
from runtime.volumes import Volumes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """What the administrator decides. root: what outlives a reboot; run: what does not; cgroup: of all containers.

    pools: where networks that name no subnet get one. live_restore: containers go on when the daemon ends; without it
    it ends them, or the next one does if it was killed.
    """

    root: Path
    run: Path
    cgroup: str
    pools: tuple[str, ...]
    live_restore: bool = True


def start(config: Config) -> Running:
    """What was running is watched again; return the app that answers from now on."""
    if strange := set(":,\\") & set(str(config.root)):
        raise Failed(f"cannot use {config.root}: overlayfs takes no {' '.join(strange)} in a path; give another --root")
    state = State(config.root / "pyrun.db")
    events = Events()
    processes = Processes(config.run / "runc", config.cgroup)
    managed = Managed(state, Programs(processes, config.root / "plugins", config.run / "plugins"), events)
    plugins = Plugins(state, managed=managed)
    volumes, networks = Volumes(state, plugins, events), Networks(state, plugins, config.pools)
    images = Images(state, config.root)
    home = config.root / "containers"
    sandboxes = Sandboxes(networks, config.run / "netns", home)
    bundles = Bundles(images, Mounts(volumes), sandboxes, processes, home, config.run / "containers")
    containers = Containers(Index(state), images, bundles, sandboxes, processes, events)
    # First: what containers have is asked of them.
    managed.recover()
    if not config.live_restore:
        containers.end_left()
    alive = containers.alive()
    for failure in volumes.recover(alive):
        log.warning("%s", failure)
    networks.recover(alive)
    # Last: it starts containers again.
    containers.recover()
    sessions = Sessions(containers)
    app = create_app(
        [
            system.blueprint(containers, str(config.root)),
            images_api.blueprint(containers),
            containers_api.blueprint(containers),
            streaming.blueprint(containers),
            archive.blueprint(containers, Files(bundles)),
            changes.blueprint(containers),
            exec_api.blueprint(sessions),
            networks_api.blueprint(
                networks, containers.connect, containers.disconnect, partial(events.tell, "network")
            ),
            volumes_api.blueprint(volumes),
            plugins_api.blueprint(managed),
        ]
    )

    def end() -> None:
        if not config.live_restore:
            containers.end_all()
            managed.end_all()

    return Running(app, end)
