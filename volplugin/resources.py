"""What pyvol wants in the kernel: frozen values, each with the key of the object it speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """Whose a directory is, and who may do what with it."""

    uid: int
    gid: int
    mode: int


ROOT = Owner(0, 0, 0o755)


@dataclass(frozen=True)
class BackingFile:
    """The file that holds a volume's filesystem, alone in its directory.

    may_create: false once the volume has been created. From then on a missing file is lost data, which a blank one in
    its place would hide. sparse: false if the whole size is allocated, always.
    """

    path: Path
    size_bytes: int
    may_create: bool
    sparse: bool = True

    @property
    def key(self) -> tuple[str, ...]:
        """The directory."""
        return ("backing file", str(self.path.parent))


@dataclass(frozen=True)
class Filesystem:
    """A complete filesystem, with the directory `tree` in its root, in a backing file.

    sparse: false if nothing in the file may be left to be made later. owner: of the tree.
    """

    path: Path
    fs: str
    tree: str
    sparse: bool = True
    mkfs_options: tuple[str, ...] = ()
    owner: Owner = ROOT

    @property
    def key(self) -> tuple[str, ...]:
        """The backing file's path."""
        return ("filesystem", str(self.path))


@dataclass(frozen=True)
class LoopDevice:
    """A block device that is the backing file; which one is the kernel's choice. sector: bytes in a sector of it."""

    path: Path
    sector: int = 512

    @property
    def key(self) -> tuple[str, ...]:
        """The backing file's path."""
        return ("loop device", str(self.path))


@dataclass(frozen=True)
class Mount:
    """The filesystem in a backing file, mounted. tree: the directory in its root that is handed out.

    options: besides nodev and nosuid, which every mount of ours has.
    """

    target: Path
    path: Path
    fs: str
    tree: str
    options: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """The mount point."""
        return ("mount", str(self.target))


@dataclass(frozen=True)
class SourceDirectory:
    """A directory of the host that may be mounted. It is the user's: nothing here changes or deletes it.

    may_create: it may be made, for `owner`, if it is missing. with_parents: those above it, too.
    """

    path: Path
    may_create: bool = False
    with_parents: bool = False
    owner: Owner = ROOT

    @property
    def key(self) -> tuple[str, ...]:
        """The path."""
        return ("source directory", str(self.path))


@dataclass(frozen=True)
class BindMount:
    """A directory of the host, mounted a second time. options: besides nodev and nosuid."""

    target: Path
    source: Path
    options: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """The mount point."""
        return ("mount", str(self.target))


@dataclass(frozen=True)
class MountPoint:
    """A mount point below our root, whatever is mounted there: what a sweep finds."""

    target: Path

    @property
    def key(self) -> tuple[str, ...]:
        """The mount point."""
        return ("mount", str(self.target))
