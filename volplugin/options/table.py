"""The one table of the `-o` options of a volume, from which parsing, errors and docs/options-pyvol.md come."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from volplugin.values import (
    MKFS_OPTIONS,
    format_mode,
    format_size,
    format_switch,
    one_of,
    parse_command,
    parse_directory,
    parse_id,
    parse_label,
    parse_local_options,
    parse_mkfs_options,
    parse_mode,
    parse_mount_options,
    parse_nonempty,
    parse_percent,
    parse_pool,
    parse_sector,
    parse_size,
    parse_switch,
)

DEFAULT_FS = "ext4"
# Below, mke2fs makes a filesystem without a journal, and mkfs.xfs and mkfs.btrfs make none.
MIN_SIZE_BYTES = {"ext4": 8 << 20, "xfs": 300 << 20, "btrfs": 109 << 20}


@dataclass(frozen=True)
class Option:
    """One row: its key on the command line, the backends that have it, its parser, and what it accepts and does.

    unset: what a new volume has without it; such a value is not shown. None: it is always shown. field: the name under
    which it is recorded, if that is not the key. later: `pyvol set` changes it.
    """

    key: str
    backends: tuple[str, ...]
    parse: Callable[[str], Any]
    accepts: str
    default: str
    help: str
    shown: Callable[[Any], str] = str
    unset: Any = None
    field: str = ""
    later: bool = False

    @property
    def attribute(self) -> str:
        """The name under which the value is recorded."""
        return self.field or self.key


# Stands for every option whose key begins so.
LABELS = "label.*"
_MADE = " With backend=bind only together with `create` or `subdir_per_volume`."

OPTIONS = (
    Option(
        "backend",
        ("loop", "bind"),
        one_of("loop", "bind"),
        "loop or bind",
        "loop",
        "`loop`: a filesystem of a fixed size in a file. `bind`: a directory of the host.",
    ),
    Option(
        "size",
        ("loop",),
        parse_size,
        "a number of bytes or with a unit: 64M, 1.5G, 10GiB; K, M, G, T and P are powers of 1024; at least 8M with"
        " ext4, 109M with btrfs, 300M with xfs",
        "`--default-size` of `pyvol serve`: 1GiB",
        "Size of the filesystem: the most that the volume takes of the host's disk.",
        format_size,
    ),
    Option(
        "fs",
        ("loop",),
        one_of(*MIN_SIZE_BYTES),
        "ext4, xfs or btrfs",
        DEFAULT_FS,
        "Kind of the filesystem.",
    ),
    Option(
        "from",
        ("loop",),
        parse_nonempty,
        "VOLUME or VOLUME@SNAPSHOT",
        "none",
        "The volume begins with what is in that one, or was when the snapshot was taken, and has its options,"
        " but for those that are given: size (at least as large), sparse, sector, mount_opts, ro.",
        str,
        "",
        "origin",
    ),
    Option(
        "sparse",
        ("loop",),
        parse_switch,
        "true or false",
        "true",
        "`false`: the whole size is allocated on the host's disk when the volume is created, and stays so.",
        format_switch,
        True,
        later=True,
    ),
    Option(
        "sector",
        ("loop",),
        parse_sector,
        "512 or 4096",
        "4096",
        "Bytes in a sector of the block device. With 512, programs may read and write smaller pieces with O_DIRECT, but"
        " the plugin cannot pass by the host's cache where the host's disk has larger ones.",
        str,
        4096,
    ),
    Option(
        "encrypt",
        ("loop",),
        parse_switch,
        "true or false",
        "false",
        "`true`: names and contents of files are encrypted (fscrypt, AES-256), and nobody reads them without the key."
        " Sizes, times and owners are not. Only with fs=ext4. See [Encryption](operating.md#encryption).",
        format_switch,
        False,
    ),
    Option(
        "key_file",
        ("loop",),
        parse_directory,
        "an absolute path without '..', below a `--key-root` of `pyvol serve`",
        "none: with encrypt=true, it or `key_cmd` must be given",
        "File of the key: 32 to 64 random bytes, which only root may read.",
        str,
        "",
        later=True,
    ),
    Option(
        "key_cmd",
        ("loop",),
        parse_command,
        "an absolute path without '..', below a `--key-root` of `pyvol serve`, and arguments",
        "none",
        "Program that prints the key and nothing else, within 10 seconds; no shell.",
        shlex.join,
        (),
        later=True,
    ),
    Option(
        "pool",
        ("loop",),
        parse_pool,
        "the name of a pool: 1 to 63 letters, digits, '_', '.' and '-'",
        "none: the state directory",
        "The pool that `pyvol pool create` made, in which the volume and its snapshots lie. A clone is where its origin"
        " is.",
        str,
        "",
    ),
    Option(
        "source",
        ("bind",),
        parse_directory,
        "an absolute path without '..'",
        "none: it must be given",
        "The directory, which must exist and lie below a `--bind-root` of `pyvol serve`.",
    ),
    Option(
        "create",
        ("bind",),
        parse_switch,
        "true or false",
        "false",
        "`true`: the directory is made, with those above it, if it is missing when the volume is created. Nobody"
        " deletes it.",
        format_switch,
        False,
    ),
    Option(
        "subdir_per_volume",
        ("bind",),
        parse_switch,
        "true or false",
        "false",
        "`true`: the volume is the directory of the volume's name in `source`, made if it is missing. Nobody deletes"
        " it.",
        format_switch,
        False,
    ),
    Option(
        "mkfs_opts",
        ("loop",),
        parse_mkfs_options,
        "flags and values, each a word of its own: "
        + "; ".join(f"with {fs} {' '.join(flags)}" for fs, flags in MKFS_OPTIONS.items()),
        "none",
        "What `mkfs` is told besides, as in `-o 'mkfs_opts=-i 8192 -m 1'`; see its manual page.",
        " ".join,
        (),
    ),
    Option(
        "mount_opts",
        ("loop", "bind"),
        parse_mount_options,
        "any of nodev, nosuid, noexec, noatime, with commas; besides, with backend=loop discard, with fs=btrfs"
        " compress=lzo, zlib or zstd (zstd:1 to 15)",
        "nodev,nosuid",
        "How it is mounted; nodev and nosuid always hold. `discard` gives the space of deleted files back to the host"
        " at once.",
        ",".join,
        (),
        later=True,
    ),
    Option(
        "ro",
        ("loop", "bind"),
        parse_switch,
        "true or false",
        "false",
        "`true`: it is mounted read-only, for everybody. The engine cannot copy an image's files into it: mount it with"
        " `nocopy`.",
        format_switch,
        False,
        later=True,
    ),
    Option(
        "reserve",
        ("loop",),
        parse_percent,
        "a number from 0 to 50",
        "0",
        "Percent of the filesystem that only root can fill, so that others cannot take the last of it. Only with"
        " fs=ext4.",
        str,
        0,
        later=True,
    ),
    Option(
        LABELS,
        ("loop", "bind"),
        parse_label,
        "1 to 255 printable characters, after a name of 1 to 63 letters, digits, '_', '.', '-' and '/'",
        "none",
        "Anything that is to be known of the volume: `-o label.owner=ann`. The engine's own `--label` is not told to"
        " plugins.",
        str,
        (),
        "labels",
        later=True,
    ),
    Option(
        "uid",
        ("loop", "bind"),
        parse_id,
        "a number",
        "0",
        f"Owner of the volume's root directory when it is made.{_MADE}",
        str,
        0,
    ),
    Option("gid", ("loop", "bind"), parse_id, "a number", "0", f"Group of the same.{_MADE}", str, 0),
    Option(
        "mode",
        ("loop", "bind"),
        parse_mode,
        "an octal number up to 7777",
        "0755",
        f"Permissions of the same.{_MADE}",
        format_mode,
        0o755,
    ),
)

# How the engine's own driver is told to bind.
LOCAL_OPTIONS = (
    Option(
        "type",
        ("bind",),
        one_of("none", "bind"),
        "none or bind",
        "",
        "With `o=bind` and `device`: the same as `backend=bind`, as the engine's `local` driver spells it.",
    ),
    Option(
        "o",
        ("bind",),
        parse_local_options,
        "bind and any of ro, rw, nodev, nosuid, noexec, noatime, with commas",
        "",
        "The same as `ro` and `mount_opts`.",
    ),
    Option("device", ("bind",), parse_directory, "an absolute path without '..'", "", "The same as `source`."),
)
