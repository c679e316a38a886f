"""The values of options: untrusted text in, types that cannot be wrong out, and back as a user would write them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from datetime import timedelta
from pathlib import PurePosixPath

_BLOCK_BYTES = 4096
_UNITS = "KMGTP"
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmgtp])?i?b?)", re.ASCII | re.IGNORECASE)
_MODE = re.compile(r"[0-7]{1,5}", re.ASCII)
_MAX_MODE = 0o7777
# 2**32 - 1 means "leave it as it is" to chown(2).
_MAX_ID = (1 << 32) - 2

# In the order in which they are shown. What a mount has anyway may be asked for, too.
_MOUNT_OPTIONS = ("nodev", "nosuid", "noexec", "noatime", "discard")
_COMPRESSION = re.compile(r"compress=(?:lzo|zlib(?::[1-9])?|zstd(?::(?:[1-9]|1[0-5]))?)", re.ASCII)

_NUMBER = r"\d{1,12}[kmg]?"
_PERIOD = re.compile(r"([1-9][0-9]{0,4})([smhdw])", re.ASCII)
_PERIOD_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_PERCENT = re.compile(r"[0-9]|[1-4][0-9]|50", re.ASCII)
_POOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
_LABEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,62}", re.ASCII)
_LABEL_MAX = 255
_LABEL = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,11}"
_EXT4_FEATURE = r"\^?(?:has_journal|metadata_csum|encrypt|casefold|fast_commit|inline_data|large_dir|stable_inodes)"
_XFS_FEATURE = r"(?:reflink|rmapbt|bigtime|finobt|inobtcount)=[01]"
# What may be asked of the programs that make filesystems, as flag and value: nothing that names another file, and
# nothing that changes the size, the blocks, or what we see to ourselves.
MKFS_OPTIONS: dict[str, dict[str, re.Pattern[str]]] = {
    fs: {flag: re.compile(pattern, re.ASCII) for flag, pattern in flags.items()}
    for fs, flags in {
        "ext4": {
            "-i": _NUMBER,
            "-I": "256|512|1024",
            "-J": rf"size={_NUMBER}",
            "-L": _LABEL,
            "-m": r"\d{1,2}",
            "-N": r"\d{1,12}",
            "-O": rf"{_EXT4_FEATURE}(?:,{_EXT4_FEATURE})*",
            "-T": "small|big|huge|news|largefile|largefile4",
        },
        "xfs": {
            "-d": r"agcount=\d{1,5}",
            "-i": r"size=(?:512|1024|2048)|maxpct=\d{1,2}",
            "-l": rf"size={_NUMBER}",
            "-L": _LABEL,
            "-m": rf"{_XFS_FEATURE}(?:,{_XFS_FEATURE})*",
            "-n": "size=(?:4096|8192|16384|32768|65536|4k|8k|16k|32k|64k)",
        },
        "btrfs": {
            "-d": "single|dup",
            "-L": _LABEL,
            "-m": "single|dup",
            "-n": "4096|8192|16384|32768|65536|4k|8k|16k|32k|64k",
            "--csum": "crc32c|xxhash|sha256|blake2",
        },
    }.items()
}


def parse_size(text: str) -> int:
    """Return the bytes that `text` says, rounded up to whole blocks; every unit is a power of 1024, as with Docker.

    Raises: ValueError. Source: docker/go-units RAMInBytes.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    number, unit = found.groups()
    scale = 1024 ** (_UNITS.index(unit.upper()) + 1) if unit else 1
    # In integers: a float cannot hold every size above 8 PiB.
    whole, _, fraction = number.partition(".")
    size = int(whole) * scale + (int(fraction) * scale // 10 ** len(fraction) if fraction else 0)
    if size >= 1 << 63:
        raise ValueError(text)
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES


def format_size(size: int) -> str:
    """Return `size` in bytes as `parse_size` reads it, in the largest unit that gives a whole number."""
    for exponent in range(len(_UNITS), 0, -1):
        if size and size % 1024**exponent == 0:
            return f"{size // 1024**exponent}{_UNITS[exponent - 1]}iB"
    return f"{size}B"


def rough_size(size: int) -> str:
    """Return `size` in bytes for people to read: 1.5GiB."""
    for exponent in range(len(_UNITS), 0, -1):
        if size >= 1024**exponent:
            return f"{size / 1024**exponent:.1f}{_UNITS[exponent - 1]}iB"
    return f"{size}B"


def parse_directory(text: str) -> str:
    """Return `text`, an absolute path, without doubled or trailing slashes.

    Raises: ValueError.
    """
    path = PurePosixPath(text)
    if not text.startswith("/") or ".." in path.parts or "\0" in text or len(text.encode()) >= 4096:
        raise ValueError(text)
    return "/" + "/".join(path.parts[1:])


def parse_command(text: str) -> tuple[str, ...]:
    """Return the words of a command line, the first of which is an absolute path. Raises: ValueError."""
    words = shlex.split(text)
    if not words or not all(word.isprintable() for word in words):
        raise ValueError(text)
    return (parse_directory(words[0]), *words[1:])


def parse_nonempty(text: str) -> str:
    """Return `text`, which is something. Raises: ValueError."""
    if not text:
        raise ValueError(text)
    return text


def parse_pool(text: str) -> str:
    """Return `text` if it can be a pool's name, which becomes part of a path. Raises: ValueError."""
    if not _POOL.fullmatch(text):
        raise ValueError(text)
    return text


def parse_percent(text: str) -> int:
    """Return a whole number of percent, of which half is the most. Raises: ValueError."""
    if not _PERCENT.fullmatch(text):
        raise ValueError(text)
    return int(text)


def parse_period(text: str) -> timedelta:
    """Return the time that `text` says: 0, or a number of seconds, minutes and so on to weeks. Raises: ValueError."""
    if text == "0":
        return timedelta()
    found = _PERIOD.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return timedelta(**{_PERIOD_UNITS[found[2]]: int(found[1])})


def parse_label(text: str) -> str:
    """Return `text` if it can be what a label says. Raises: ValueError."""
    if not text or len(text) > _LABEL_MAX or not text.isprintable():
        raise ValueError(text)
    return text


def parse_label_name(text: str) -> str:
    """Return `text` if it can be a label's name. Raises: ValueError."""
    if not _LABEL_NAME.fullmatch(text):
        raise ValueError(text)
    return text


def one_of(*values: str) -> Callable[[str], str]:
    """Return a parser of exactly these words."""

    def parse(text: str) -> str:
        if text not in values:
            raise ValueError(text)
        return text

    return parse


def parse_switch(text: str) -> bool:
    """Return whether it is on. Raises: ValueError."""
    return one_of("false", "true")(text) == "true"


def format_switch(on: bool) -> str:
    """Return the word that `parse_switch` reads."""
    return "true" if on else "false"


def parse_sector(text: str) -> int:
    """Return the bytes in a sector. Raises: ValueError."""
    return int(one_of("512", "4096")(text))


def parse_mode(text: str) -> int:
    """Return the permissions that `text` says in octal. Raises: ValueError."""
    mode = int(text, 8) if _MODE.fullmatch(text) else _MAX_MODE + 1
    if mode > _MAX_MODE:
        raise ValueError(text)
    return mode


def format_mode(mode: int) -> str:
    """Return `mode` as `parse_mode` reads it."""
    return f"{mode:04o}"


def parse_id(text: str) -> int:
    """Return the number of a user or a group. Raises: ValueError: also for a name, which means nothing elsewhere."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 10 or int(text) > _MAX_ID:
        raise ValueError(text)
    return int(text)


def parse_mount_options(text: str) -> tuple[str, ...]:
    """Return the options of a mount, each once, in one order. Raises: ValueError: one that is not on the list."""
    given = {word.strip() for word in text.split(",")}
    compression = [word for word in given if _COMPRESSION.fullmatch(word)]
    if len(compression) > 1 or given - set(_MOUNT_OPTIONS) - set(compression):
        raise ValueError(text)
    return (*(word for word in _MOUNT_OPTIONS if word in given), *compression)


def parse_local_options(text: str) -> tuple[str, ...]:
    """Return the words of the local driver's `o`, in one order. Raises: ValueError: not those of a bind."""
    given = {word.strip() for word in text.split(",")}
    known = ("bind", "ro", "rw", *_MOUNT_OPTIONS[:-1])
    if given - set(known) or "bind" not in given or {"ro", "rw"} <= given:
        raise ValueError(text)
    return tuple(word for word in known if word in given)


def parse_mkfs_options(text: str) -> tuple[str, ...]:
    """Return the words of `text`, flags and values in turn, all of which some filesystem takes. Raises: ValueError."""
    words = tuple(shlex.split(text))
    if not words or all(wrong_mkfs_option(fs, words) is not None for fs in MKFS_OPTIONS):
        raise ValueError(text)
    return words


def wrong_mkfs_option(fs: str, words: tuple[str, ...]) -> str | None:
    """Return the first of the options that the filesystem does not take, or None if it takes them all."""
    for index in range(0, len(words), 2):
        pattern = MKFS_OPTIONS[fs].get(words[index])
        if pattern is None or index + 1 == len(words) or not pattern.fullmatch(words[index + 1]):
            return " ".join(words[index : index + 2])
    return None
