"""The kinds of filesystem: how each is made, and what is done before the first mount after an unclean end.

ext4: e2fsck -p, which replays the journal and repairs what is safe to repair. xfs: nothing, for the mount replays the
log; xfs_repair -L, which throws the log away, is never run. btrfs: nothing, for it is consistent at every moment, and
its check is no repair.

Source: mke2fs(8), mkfs.xfs(8), xfs_db(8), mkfs.btrfs(8).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pluginkit import command
from volplugin.kernel.backing import discard
from volplugin.kernel.superblock import BLOCK_BYTES
from volplugin.kernel.syscalls import refused
from volplugin.resources import Filesystem

# Below dockerd's 120 s for Create and Mount.
_TIMEOUT_S = 60.0
# How far an ext4 can grow with the blocks that mke2fs sets aside for the descriptions of what is added. By default that
# is 1024 times its size, and to fill so many with zeros takes most of mke2fs's time. Beyond, it grows in another way.
_GROWTH = 16
_GROWTH_AT_LEAST_BYTES = 1 << 40
_GROWTH_BY_DEFAULT = 1024
_PERMISSIONS = 0o777
_DIRECTORY = 0o40000


@dataclass(frozen=True)
class MountFacts:
    """What every mount of a filesystem has, and the command that looks at a damaged one."""

    data: tuple[str, ...]
    repair: str


MOUNT_FACTS = {
    # minixdf: df shows the size that was asked for, with the filesystem's own structures as used.
    "ext4": MountFacts(("errors=remount-ro", "minixdf"), "e2fsck -f"),
    # nouuid: a copy of a volume's file may be mounted beside it.
    "xfs": MountFacts(("nouuid",), "xfs_repair"),
    "btrfs": MountFacts((), "btrfs check"),
}


def make(want: Filesystem, image: Path, source: Path) -> None:
    """The blank file `image` holds the filesystem, with its tree. source: a name that is free, before and after.

    Nothing is discarded: a file that was allocated on purpose stays so.

    Raises: CommandError, KernelError.
    """
    with refused("make", source):
        discard(source)
    match want.fs:
        case "xfs":
            _make_xfs(want, image, source)
        case fs:
            with refused("make", source):
                _make_tree(want, source)
                argv = _ext4(want, image.stat().st_size) if fs == "ext4" else _btrfs(want)
            command.run([*argv, str(source), str(image)], timeout_s=_TIMEOUT_S)
    with refused("delete", source):
        discard(source)


def _make_tree(want: Filesystem, source: Path) -> None:
    (source / want.tree).mkdir(parents=True)
    # Both get into the filesystem as they are, whatever our umask is.
    source.chmod(0o755)
    os.chown(source / want.tree, want.owner.uid, want.owner.gid)
    (source / want.tree).chmod(want.owner.mode)  # After the owner, for a change of that takes set-ID bits away.


def _ext4(want: Filesystem, size: int) -> list[str]:
    # The lazy ones spare writing inode tables and a journal full of zeros into a file that reads as zeros; what is left
    # for later, the kernel makes by punching holes. Blocks of 4096 bytes fit every sector size.
    extended = f"nodiscard,lazy_itable_init={want.sparse:d},lazy_journal_init=1,root_owner=0:0"
    if (limit := max(_GROWTH * size, _GROWTH_AT_LEAST_BYTES)) < _GROWTH_BY_DEFAULT * size:
        extended += f",resize={limit // BLOCK_BYTES}"
    reserve = str(want.reserve or 0)
    given = list(want.mkfs_options)
    if want.key_source is not None:
        # Of several -O, the last one alone counts.
        if "-O" in given:
            given[given.index("-O") + 1] += ",encrypt"
        else:
            given += ["-O", "encrypt"]
    return ["mkfs.ext4", "-q", "-F", "-b", str(BLOCK_BYTES), "-m", reserve, "-E", extended, *given, "-d"]


def _btrfs(want: Filesystem) -> list[str]:
    return ["mkfs.btrfs", "-q", "-K", *want.mkfs_options, "-r"]


def _make_xfs(want: Filesystem, image: Path, source: Path) -> None:
    # What the root holds is told by a "prototype": two lines that nobody reads, the root, what is in it.
    owner = want.owner
    tree = f"{want.tree} d--{owner.mode & _PERMISSIONS:03o} {owner.uid} {owner.gid}"
    prototype = f"unused\n0 0\nd--755 0 0\n{tree}\n$\n"
    with refused("make", source):
        source.write_text(prototype, encoding="ascii")
    # Sectors of 4096 bytes fit a device with any.
    argv = ["mkfs.xfs", "-q", "-K", "-s", "size=4096", *want.mkfs_options, "-p", str(source), str(image)]
    command.run(argv, timeout_s=_TIMEOUT_S)
    if owner.mode > _PERMISSIONS:
        # A prototype has no way to say "sticky".
        write = f"write core.mode 0{_DIRECTORY | owner.mode:o}"
        command.run(["xfs_db", "-x", "-c", f"path /{want.tree}", "-c", write, str(image)], timeout_s=_TIMEOUT_S)
