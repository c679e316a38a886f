"""What pyvol wants in the kernel: frozen values, each with the key of the object it speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# The directory of images that are filled to become volumes. No volume's name starts with a dot.
STAGED = ".staged"
# Beside the volumes' directories: those of the pools' files, and those in which pools are mounted.
POOLS = ".pools"
POOL_MOUNTS = ".mounted"


@dataclass(frozen=True)
class Owner:
    """Whose a directory is, and who may do what with it."""

    uid: int
    gid: int
    mode: int


ROOT = Owner(0, 0, 0o755)


@dataclass(frozen=True)
class KeySource:
    """Where a volume's key comes from: the file `path`, or what the program there prints. Never the key itself.

    command: the program with its arguments; (): a file.
    """

    path: Path
    command: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it as a user did."""
        return f"key_cmd={' '.join(self.command)}" if self.command else f"key_file={self.path}"


@dataclass(frozen=True)
class BackingFile:
    """The file that holds a volume's filesystem, alone in its directory.

    trash: where it goes instead of being deleted, and where it comes from if it is not there.
    may_create: false once the volume has been created. From then on a missing file is lost data, which a blank one in
    its place would hide. sparse: false if the whole size is allocated, always. fs: what is in it. shrinks: that may be
    made smaller to fit.
    """

    path: Path
    size_bytes: int
    may_create: bool
    sparse: bool = True
    fs: str = "ext4"
    shrinks: bool = False
    trash: Path | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """The directory."""
        return ("backing file", str(self.path.parent))


@dataclass(frozen=True)
class TrashedImage:
    """The place in the trash of a backing file, be it there or not: when this goes, it is gone for good."""

    path: Path

    @property
    def key(self) -> tuple[str, ...]:
        """The path."""
        return ("trashed image", str(self.path))


@dataclass(frozen=True)
class Origin:
    """A backing file to copy, and where it is mounted while it is; None: it is a snapshot, which never is."""

    path: Path
    target: Path | None


@dataclass(frozen=True)
class Filesystem:
    """A complete filesystem, with the directory `tree` in its root, in a backing file.

    sparse: false if nothing in the file may be left to be made later. owner: of the tree. origin: what it is a copy of,
    if it is one. reserve: percent of it that only root can fill; None: that is not our business. key_source: of the key
    that the tree will be encrypted with when it is first mounted, if it is to be.
    """

    path: Path
    fs: str
    tree: str
    sparse: bool = True
    mkfs_options: tuple[str, ...] = ()
    owner: Owner = ROOT
    origin: Origin | None = None
    reserve: int | None = None
    key_source: KeySource | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """The backing file's path."""
        return ("filesystem", str(self.path))


@dataclass(frozen=True)
class SnapshotFile:
    """What was in a backing file at an instant.

    may_create: false once it has been made. From then on a missing file is lost data.
    """

    path: Path
    origin: Origin
    may_create: bool

    @property
    def key(self) -> tuple[str, ...]:
        """The path."""
        return ("snapshot", str(self.path))


@dataclass(frozen=True)
class StagedImage:
    """The file `staged`, a whole image of a filesystem `fs`, has become the backing file `path`."""

    path: Path
    staged: Path
    fs: str

    @property
    def key(self) -> tuple[str, ...]:
        """The path that it comes from."""
        return ("staged image", str(self.staged))


@dataclass(frozen=True)
class Restoration:
    """The content of a backing file is that of a snapshot's, once: what is written later is not undone.

    token: tells it from every other one. size_bytes: of the file, at least the snapshot's.
    """

    path: Path
    snapshot: Path
    size_bytes: int
    token: str

    @property
    def key(self) -> tuple[str, ...]:
        """The backing file's path."""
        return ("restoration", str(self.path))


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

    options: besides nodev and nosuid, which every mount of ours has. key_source: of the key that the tree is encrypted
    with, if it is. lazy: it can be taken down while processes use it.
    """

    target: Path
    path: Path
    fs: str
    tree: str
    options: tuple[str, ...] = ()
    key_source: KeySource | None = None
    lazy: bool = False

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
    """A directory of the host, mounted a second time. options: besides nodev and nosuid. lazy: see `Mount`."""

    target: Path
    source: Path
    options: tuple[str, ...] = ()
    lazy: bool = False

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
