"""The options of a volume: text that users give in, types that cannot be wrong out."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from pluginkit.errors import BadRequest
from volplugin.options.table import DEFAULT_FS, LABELS, LOCAL_OPTIONS, MIN_SIZE_BYTES, OPTIONS, Option
from volplugin.values import MKFS_OPTIONS, format_size, parse_label_name, wrong_mkfs_option

DEFAULT_SIZE_BYTES = 1 << 30

_BY_KEY = {option.key: option for option in (*OPTIONS, *LOCAL_OPTIONS)}
_BY_ATTRIBUTE = {option.attribute: option for option in _BY_KEY.values()}
# What lies in a copy as it was made.
COPIED = ("fs", "encrypt", "mkfs_opts", "uid", "gid", "mode")


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
    origin: str = ""
    reserve: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    encrypt: bool = False
    key_file: str = ""
    key_cmd: tuple[str, ...] = ()
    pool: str = ""


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
    labels: tuple[tuple[str, str], ...] = ()


def parse_options(given: Mapping[str, str], default_size: int, known: Loop | Bind | None = None) -> Loop | Bind:
    """Return the options of a volume. known: the options that it has, which hold where none are given.

    Raises: BadRequest: an unknown key, with the nearest known one; a value that the key does not accept; keys that do
    not go together.
    """
    values = _parse_each(given)
    local: dict[str, Any] = {key: values.pop(key) for key in ("type", "o", "device") if key in values}
    if local:
        values = {"backend": "bind", **_from_local(local, values)}
    backend = values.pop("backend", "bind" if isinstance(known, Bind) else "loop")
    for key in values:
        if backend not in _BY_ATTRIBUTE[key].backends:
            takes = ", ".join(option.key for option in OPTIONS if backend in option.backends)
            spelled = _BY_ATTRIBUTE[key].key
            raise BadRequest(f"cannot use -o {spelled}={given[spelled]} with backend={backend}, which takes {takes}")
    if backend == "bind":
        return _parse_bind(values, known if isinstance(known, Bind) else None)
    return _parse_loop(values, given, default_size, known if isinstance(known, Loop) else None)


def parse_changes(given: Mapping[str, str], known: Loop | Bind) -> Loop | Bind:
    """Return the options of a volume that has `known` and is to have these; an empty value: as if it were not given.

    Raises: BadRequest: as `parse_options`, and a key that cannot be changed later.
    """
    takes = [option.key for option in OPTIONS if option.later and _backend(known) in option.backends]
    for key in given:
        if not _known(key).later:
            how = "; pyvol resize changes it" if key == "size" else ""
            can = ", ".join(takes)
            raise BadRequest(f"cannot change -o {key}: it is as it was made{how}; what can be changed: {can}")
    unset = {key: _known(key) for key, text in given.items() if not text}
    reset = {option.attribute: option.unset for option in unset.values() if option.key != LABELS}
    gone = {key.partition(".")[2] for key, option in unset.items() if option.key == LABELS}
    # Only what both backends have or this one has: parse_options says so of the others.
    reset = {name: value for name, value in reset.items() if hasattr(known, name)}
    labels = tuple((name, text) for name, text in known.labels if name not in gone)
    return parse_options(
        {key: text for key, text in given.items() if text}, 0, msgspec.structs.replace(known, labels=labels, **reset)
    )


def _parse_each(given: Mapping[str, str]) -> dict[str, Any]:
    """Return the values by the names under which they are recorded."""
    values: dict[str, Any] = {}
    for key, text in given.items():
        option = _known(key)
        value = _parse(option, key, text)
        if option.key == LABELS:
            values.setdefault(option.attribute, {})[key.partition(".")[2]] = value
        else:
            values[option.attribute] = value
    return values


def _labels(known: tuple[tuple[str, str], ...], given: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({**dict(known), **given}.items()))


def _backend(options: Loop | Bind) -> str:
    return "bind" if isinstance(options, Bind) else "loop"


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
    is_clone = known is not None and values.get("origin", known.origin) != known.origin
    labels = _labels(() if is_clone else base["labels"], values.get("labels", {}))
    loop = Loop(**{**base, **values, "labels": labels})
    if known is not None and is_clone:
        for key in (*COPIED, "pool"):
            if getattr(loop, key) != getattr(known, key):
                raise BadRequest(f"cannot use -o {key} with -o from={loop.origin}: it is as it is in that volume")
        if loop.size < known.size:
            least = format_size(known.size)
            raise BadRequest(f"cannot use -o size={given['size']} with -o from={loop.origin}, which has {least}")
    if loop.size < MIN_SIZE_BYTES[loop.fs]:
        least = format_size(MIN_SIZE_BYTES[loop.fs])
        size = given.get("size", format_size(loop.size))
        raise BadRequest(f"cannot use -o size={size}: fs={loop.fs} needs at least {least}")
    if (wrong := wrong_mkfs_option(loop.fs, loop.mkfs_opts)) is not None:
        takes = " ".join(MKFS_OPTIONS[loop.fs])
        raise BadRequest(f"cannot use -o mkfs_opts: fs={loop.fs} does not take {wrong!r}; it takes {takes}")
    if loop.reserve and loop.fs != "ext4":
        raise BadRequest(f"cannot use -o reserve={loop.reserve} with fs={loop.fs}: only ext4 keeps something for root")
    if loop.reserve and "-m" in loop.mkfs_opts:
        raise BadRequest("cannot use -o reserve together with -o mkfs_opts=-m: they say the same")
    _check_encryption(loop)
    for word in loop.mount_opts:
        if word.startswith("compress") and loop.fs != "btrfs":
            raise BadRequest(f"cannot use -o mount_opts={word} with fs={loop.fs}: only btrfs compresses")
        if word == "discard" and not loop.sparse:
            raise BadRequest("cannot use -o mount_opts=discard with sparse=false: it would give back what is allocated")
    return loop


def _check_encryption(loop: Loop) -> None:
    """Raises: BadRequest: what is said of the encryption does not go together."""
    given = [key for key in ("key_file", "key_cmd") if getattr(loop, key)]
    if given and not loop.encrypt:
        raise BadRequest(f"cannot use -o {given[0]} without -o encrypt=true: nothing is encrypted with it")
    if not loop.encrypt:
        return
    if loop.fs != "ext4":
        raise BadRequest(f"cannot use -o encrypt=true with fs={loop.fs}: only ext4 encrypts; leave out -o fs")
    if len(given) != 1:
        why = "one of the two says where the key comes from" if given else "where does the key come from?"
        raise BadRequest(f"cannot use -o encrypt=true: give -o key_file=PATH or -o key_cmd=PROGRAM, {why}")
    if "^encrypt" in ",".join(loop.mkfs_opts).split(","):
        raise BadRequest("cannot use -o encrypt=true together with -o mkfs_opts=-O ^encrypt: they say the opposite")


def _parse_bind(values: Mapping[str, Any], known: Bind | None) -> Bind:
    base = _unset("bind") if known is None else msgspec.structs.asdict(known)
    if "source" not in {**base, **values}:
        raise BadRequest("cannot use -o backend=bind without -o source=/path, the directory to mount")
    bind = Bind(**{**base, **values, "labels": _labels(base.get("labels", ()), values.get("labels", {}))})
    for word in bind.mount_opts:
        if word == "discard" or word.startswith("compress"):
            raise BadRequest(f"cannot use -o mount_opts={word} with backend=bind: the filesystem is the host's")
    made = [key for key in ("uid", "gid", "mode") if key in values]
    if made and not (bind.create or bind.subdir_per_volume):
        raise BadRequest(f"cannot use -o {made[0]} with backend=bind without create=true: the directory is not pyvol's")
    return bind


def _unset(backend: str) -> dict[str, Any]:
    return {
        option.attribute: option.unset for option in OPTIONS if backend in option.backends and option.unset is not None
    }


def _known(key: str) -> Option:
    option = _BY_KEY.get(LABELS if key.startswith("label.") else key)
    if option is None:
        near = difflib.get_close_matches(key, _BY_KEY, n=1, cutoff=0.0)
        raise BadRequest(f"cannot use -o {key[:80]}: there is no such option; the nearest is {near[0]}")
    return option


def _parse(option: Option, key: str, text: str) -> Any:
    try:
        if option.key == LABELS:
            parse_label_name(key.partition(".")[2])
        return option.parse(text)
    except ValueError as exc:
        raise BadRequest(f"cannot use -o {key[:80]}={text[:80]}: it takes {option.accepts}") from exc
