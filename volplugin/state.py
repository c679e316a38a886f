"""What the administrator decides of pyvol, and its records as a file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pluginkit.store import Store
from volplugin.capacity import NEVER, Overcommit
from volplugin.kernel import mounts
from volplugin.volumes import ALL

STATE_FILE = "pyvol.db"


@dataclass(frozen=True)
class Config:
    """What the administrator decides. bind_roots: below these, users may have directories of the host mounted.

    key_roots: below these are the keys of volumes, and the programs that print them.
    """

    state_dir: Path
    mount_root: Path
    bind_roots: tuple[Path, ...]
    key_roots: tuple[Path, ...]
    default_size: int
    overcommit: Overcommit = NEVER
    trash: timedelta = timedelta()


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
    return Store(state_dir / STATE_FILE, ALL)
