"""The names of images, as the docker CLI spells them. Source: distribution/reference, regexp.go."""

from __future__ import annotations

import re

from runtime.errors import BadParameter

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-f:]+\])(?::[0-9]+)?"
_NAME = re.compile(rf"(?:{_DOMAIN}/)?{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)


def parse_reference(text: str, tag: str = "") -> str:
    """Return the name with its tag, in the short spelling: `docker.io/library/x` is `x:latest`.

    Raises: BadParameter.
    """
    name = text
    for prefix in ("index.docker.io/", "docker.io/", "library/"):
        name = name.removeprefix(prefix)
    if not tag:
        head, colon, last = name.rpartition(":")
        # A colon before the last slash belongs to the port of a registry.
        name, tag = (head, last) if colon and "/" not in last else (name, "latest")
    if not _NAME.fullmatch(name) or len(name) > 255 or not _TAG.fullmatch(tag):
        raise BadParameter(f"invalid reference format: cannot use {text!r} as the name of an image; write name[:tag]")
    return f"{name}:{tag}"
