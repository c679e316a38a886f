"""Every request and answer of VolumeDriver, spelled as Docker spells them.

Source: docs/protocol.md; moby volume/drivers/proxy.go. List and Capabilities take nothing: dockerd sends `{}`, Podman
an empty body.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class CreateRequest:
    """VolumeDriver.Create."""

    Name: str
    Opts: dict[str, str] | None = None


@dataclass(frozen=True)
class VolumeRequest:
    """VolumeDriver.Remove, Path, Get."""

    Name: str


@dataclass(frozen=True)
class MountRequest:
    """VolumeDriver.Mount, Unmount."""

    Name: str
    ID: str


@dataclass(frozen=True)
class MountpointAnswer:
    """VolumeDriver.Path, Mount."""

    Mountpoint: str
    Err: str = ""


@dataclass(frozen=True)
class VolumeInfo:
    """One volume. CreatedAt goes out as RFC 3339: in any other form dockerd takes the volume for missing."""

    Name: str
    Mountpoint: str
    CreatedAt: datetime
    Status: dict[str, Any]


@dataclass(frozen=True)
class GetAnswer:
    """VolumeDriver.Get."""

    Volume: VolumeInfo
    Err: str = ""


@dataclass(frozen=True)
class ListAnswer:
    """VolumeDriver.List."""

    Volumes: list[VolumeInfo]
    Err: str = ""


@dataclass(frozen=True)
class Capability:
    """The one thing that a volume driver has to say of itself."""

    Scope: str = "local"


@dataclass(frozen=True)
class CapabilitiesAnswer:
    """VolumeDriver.Capabilities."""

    Capabilities: Capability
    Err: str = ""
