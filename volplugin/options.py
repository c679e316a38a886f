"""The `-o` options of a volume: one table, from which parsing, errors and docs/options-pyvol.md come."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from pluginkit.errors import BadRequest
from volplugin.values import (
    MKFS_OPTIONS,
    format_mode,
    format_size,
    format_switch,
    one_of,
    parse_directory,
    parse_id,
    parse_local_options,
    parse_mkfs_options,
    parse_mode,
    parse_mount_options,
    parse_sector,
    parse_size,
    parse_switch,
    wrong_mkfs_option,
)

DEFAULT_SIZE_BYTES = 1 << 30
DEFAULT_FS = "ext4"
# Below, mke2fs makes a filesystem without a journal, and mkfs.xfs and mkfs.btrfs make none.
MIN_SIZE_BYTES = {"ext4": 8 << 20, "xfs": 300 << 20, "btrfs": 109 << 20}


class Loop(msgspec.Struct, frozen=True, tag="loop", tag_field="backend"):
    """The options of a volume that is a filesystem of a fixed size in a file.

    The defaults are what volumes of earlier versions have, which recorded less.
    """

    size: int
    fs: str
    sparse: bool = True
    sector: int = 512
    mkfs_opts: tuple[str, ...] = ()
    mount_opts: tuple[str, ...] = ()
    ro: bool = False
    uid: int = 0
    gid: int = 0
    mode: int = 0o755


class Bind(msgspec.Struct, frozen=True, tag="bind", tag_field="backend"):
    """The options of a volume that is a directory of the host. source: an absolute path without '..'.

    uid, gid and mode are those of a directory that is made.
    """

    source: str
    create: bool = False
    subdir_per_volume: bool = False
    mount_opts: tuple[str, ...] = ()
    ro: bool = False
    uid: int = 0
    gid: int = 0
    mode: int = 0o755


@dataclass(frozen=True)
class Option:
    """One row: its key on the command line, the backends that have it, its parser, and what it accepts and does.

    unset: what a new volume has without it; such a value is not shown. None: it is always shown.
    """

    key: str
    backends: tuple[str, ...]
    parse: Callable[[str], Any]
    accepts: str
    default: str
    help: str
    shown: Callable[[Any], str] = str
    unset: Any = None


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
        "sparse",
        ("loop",),
        parse_switch,
        "true or false",
        "true",
        "`false`: the whole size is allocated on the host's disk when the volume is created, and stays so.",
        format_switch,
        True,
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

_BY_KEY = {option.key: option for option in (*OPTIONS, *LOCAL_OPTIONS)}


def parse_options(given: Mapping[str, str], default_size: int, known: Loop | Bind | None = None) -> Loop | Bind:
    """Return the options of a volume. known: the options that it has, which hold where none are given.

    Raises: BadRequest: an unknown key, with the nearest known one; a value that the key does not accept; keys that do
    not go together.
    """
    values = {key: _parse(_known(key), text) for key, text in given.items()}
    local: dict[str, Any] = {key: values.pop(key) for key in ("type", "o", "device") if key in values}
    if local:
        values = {"backend": "bind", **_from_local(local, values)}
    backend = values.pop("backend", "bind" if isinstance(known, Bind) else "loop")
    for key in values:
        if backend not in _BY_KEY[key].backends:
            takes = ", ".join(option.key for option in OPTIONS if backend in option.backends)
            raise BadRequest(f"cannot use -o {key}={given[key]} with backend={backend}, which takes {takes}")
    if backend == "bind":
        return _parse_bind(values, known if isinstance(known, Bind) else None)
    return _parse_loop(values, given, default_size, known if isinstance(known, Loop) else None)


def _from_local(local: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with what the spelling of the engine's own driver says in ours."""
    if "bind" not in local.get("o", ()) or "device" not in local:
        raise BadRequest("cannot use -o type, o or device but for a bind: -o type=none -o o=bind -o device=/path")
    if values.get("backend", "bind") != "bind":
        raise BadRequest(f"cannot use -o device with backend={values['backend']}: it is a directory to bind")
    said: dict[str, Any] = {"source": local["device"]}
    if "ro" in local["o"]:
        said["ro"] = True
    if flags := tuple(word for word in local["o"] if word not in ("bind", "ro", "rw")):
        said["mount_opts"] = flags
    for key in values.keys() & said:
        other = "device" if key == "source" else "o"
        raise BadRequest(f"cannot use -o {key} together with -o {other}: they say the same")
    return {**values, **said}


def _parse_loop(values: Mapping[str, Any], given: Mapping[str, str], default_size: int, known: Loop | None) -> Loop:
    base = _unset("loop") | {"size": default_size, "fs": DEFAULT_FS} if known is None else msgspec.structs.asdict(known)
    loop = Loop(**{**base, **values})
    if loop.size < MIN_SIZE_BYTES[loop.fs]:
        least = format_size(MIN_SIZE_BYTES[loop.fs])
        size = given.get("size", format_size(loop.size))
        raise BadRequest(f"cannot use -o size={size}: fs={loop.fs} needs at least {least}")
    if (wrong := wrong_mkfs_option(loop.fs, loop.mkfs_opts)) is not None:
        takes = " ".join(MKFS_OPTIONS[loop.fs])
        raise BadRequest(f"cannot use -o mkfs_opts: fs={loop.fs} does not take {wrong!r}; it takes {takes}")
    for word in loop.mount_opts:
        if word.startswith("compress") and loop.fs != "btrfs":
            raise BadRequest(f"cannot use -o mount_opts={word} with fs={loop.fs}: only btrfs compresses")
        if word == "discard" and not loop.sparse:
            raise BadRequest("cannot use -o mount_opts=discard with sparse=false: it would give back what is allocated")
    return loop


def _parse_bind(values: Mapping[str, Any], known: Bind | None) -> Bind:
    base = _unset("bind") if known is None else msgspec.structs.asdict(known)
    if "source" not in {**base, **values}:
        raise BadRequest("cannot use -o backend=bind without -o source=/path, the directory to mount")
    bind = Bind(**{**base, **values})
    for word in bind.mount_opts:
        if word == "discard" or word.startswith("compress"):
            raise BadRequest(f"cannot use -o mount_opts={word} with backend=bind: the filesystem is the host's")
    made = [key for key in ("uid", "gid", "mode") if key in values]
    if made and not (bind.create or bind.subdir_per_volume):
        raise BadRequest(f"cannot use -o {made[0]} with backend=bind without create=true: the directory is not pyvol's")
    return bind


def _unset(backend: str) -> dict[str, Any]:
    return {option.key: option.unset for option in OPTIONS if backend in option.backends and option.unset is not None}


def shown(options: Loop | Bind) -> dict[str, str]:
    """Return `options` as a user would give them with -o; what is as it would be without is left out."""
    backend = "loop" if isinstance(options, Loop) else "bind"
    found = {"backend": backend}
    for option in OPTIONS[1:]:
        if backend in option.backends:
            value = getattr(options, option.key)
            if value != option.unset:
                found[option.key] = option.shown(value)
    return found


def differing(one: Loop | Bind, other: Loop | Bind) -> list[str]:
    """Return the keys of which `one` and `other` have different values, in the order of the table."""
    left, right = shown(one), shown(other)
    return [option.key for option in OPTIONS if left.get(option.key) != right.get(option.key)]


def _known(key: str) -> Option:
    option = _BY_KEY.get(key)
    if option is None:
        near = difflib.get_close_matches(key, _BY_KEY, n=1, cutoff=0.0)
        raise BadRequest(f"cannot use -o {key[:80]}: there is no such option; the nearest is {near[0]}")
    return option


def _parse(option: Option, text: str) -> Any:
    try:
        return option.parse(text)
    except ValueError as exc:
        raise BadRequest(f"cannot use -o {option.key}={text[:80]}: it takes {option.accepts}") from exc


def describe_options() -> str:
    """Return the table as Markdown, one row an option."""
    rows = ["| option | backend | accepts | default | meaning |", "|---|---|---|---|---|"]
    for option in (*OPTIONS, *LOCAL_OPTIONS):
        backends = ", ".join(option.backends)
        rows.append(f"| `{option.key}` | {backends} | {option.accepts} | {option.default} | {option.help} |")
    return "\n".join(rows) + "\n"
