"""Who `--user` means: looked up in the container's own files, which are not trusted."""

from __future__ import annotations

import os
from pathlib import Path

from runtime import kernel
from runtime.containers.spec import User
from runtime.errors import BadParameter

_MAX_BYTES = 4 * 1024 * 1024
_MAX_ID = 2**31 - 1


def find_user(rootfs: Path, asked: str, more_groups: list[str]) -> User:
    """Return the ids of `name|uid[:group|gid]` and all groups that the container's /etc/group gives that user.

    Raises: BadParameter: there is no such user or group.
    """
    name, _, group = (asked or "0").partition(":")
    users, groups = _lines(rootfs, "/etc/passwd", 7), _lines(rootfs, "/etc/group", 4)
    entry = next((line for line in users if name in (line[0], line[2])), None)
    if entry is None and not name.isdecimal():
        raise BadParameter(f"unable to find user {name}: no matching entries in passwd file")
    uid = _number(entry[2] if entry else name)
    gid = _number(entry[3]) if entry else 0
    extra = [] if group else [_number(line[2]) for line in groups if entry and entry[0] in line[3].split(",")]
    if group:
        gid = _group(groups, group)
    extra += [_group(groups, each) for each in more_groups]
    return User(uid, gid, tuple(dict.fromkeys([gid, *extra])))


def _group(groups: list[list[str]], wanted: str) -> int:
    entry = next((line for line in groups if wanted in (line[0], line[2])), None)
    if entry is None and not wanted.isdecimal():
        raise BadParameter(f"unable to find group {wanted}: no matching entries in group file")
    return _number(entry[2] if entry else wanted)


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) > _MAX_ID:
        raise BadParameter(f"cannot use {text!r} as the id of a user or group: it is no number up to {_MAX_ID}")
    return int(text)


def _lines(rootfs: Path, path: str, fields: int) -> list[list[str]]:
    try:
        descriptor = kernel.open_in_root(rootfs, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return []
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as content:
        lines = [line.split(":") for line in content.read(_MAX_BYTES).splitlines()]
    return [line for line in lines if len(line) >= fields]
