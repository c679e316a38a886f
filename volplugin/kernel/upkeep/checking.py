"""Filesystems are checked in their files, which nobody has mounted, and nothing is repaired.

Source: e2fsck(8), xfs_repair(8), btrfs-check(8) for the exit codes; the three never write when they are told so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pluginkit import command
from pluginkit.errors import CommandError
from volplugin.kernel import filesystem
from volplugin.kernel.formats import MOUNT_FACTS
from volplugin.kernel.syscalls import refused

# e2fsck: 4 for errors that it left. xfs_repair: 1. btrfs: 1. Anything else is about the program, not the filesystem.
_DAMAGED = {"ext4": (4,), "xfs": (1,), "btrfs": (1,)}
# xfs_repair has no exit code for it.
_LOG_IGNORED = "valuable metadata changes in a log"
_SHOWN_LINES = 5


@dataclass(frozen=True)
class Finding:
    """What a check found, and what there is to say of it."""

    verdict: Literal["ok", "damaged", "unclean", "changed", "unknown"]
    detail: str = ""


class Checking:
    """Looks for damage."""

    def check(self, image: Path, fs: str, timeout_s: float) -> Finding:
        """Return what is wrong in the file, if anything is; nothing of it has been changed.

        unclean: it was not unmounted, and its next mount puts that right. changed: somebody wrote to it meanwhile, so
        that there is nothing to say. unknown: the check itself failed, or took too long.

        Raises: KernelError: the file cannot be read.
        """
        with refused("check", image):
            before = image.stat()
        if fs == "ext4" and not filesystem.is_clean(image):
            return Finding("unclean", "it was not unmounted cleanly; its next mount puts that right")
        try:
            done = command.run(_argv(image, fs), timeout_s=timeout_s, accept=(0, *_DAMAGED[fs]))
        except CommandError as exc:
            return Finding("unknown", str(exc))
        with refused("check", image):
            after = image.stat()
        if (before.st_mtime_ns, before.st_ino) != (after.st_mtime_ns, after.st_ino):
            return Finding("changed", "it was mounted meanwhile; try again")
        said = f"{done.stdout}\n{done.stderr}"
        if fs == "xfs" and _LOG_IGNORED in said:
            return Finding("unclean", "it was not unmounted cleanly; its next mount puts that right")
        if done.returncode:
            lines = [line.strip() for line in said.splitlines() if line.strip()][-_SHOWN_LINES:]
            return Finding("damaged", f"repair it by hand: {MOUNT_FACTS[fs].repair} {image}; {'; '.join(lines)}")
        return Finding("ok")


def _argv(image: Path, fs: str) -> list[str]:
    match fs:
        case "ext4":
            return ["e2fsck", "-f", "-n", str(image)]
        case "xfs":
            return ["xfs_repair", "-n", "-f", str(image)]
        case _:
            # The only one of the three that has checksums of what is in the files.
            return ["btrfs", "check", "--readonly", "--check-data-csum", str(image)]
