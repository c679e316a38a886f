"""Every request and answer about pools. What speaks it is released together with what answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PoolCreateRequest:
    """Pools.Create. Size: as with -o size. Allocate: all of it is taken of the disk at once."""

    Name: str
    Size: str
    Fs: str = "xfs"
    Allocate: bool = False


@dataclass(frozen=True)
class PoolGrowRequest:
    """Pools.Grow."""

    Name: str
    Size: str


@dataclass(frozen=True)
class PoolRemoveRequest:
    """Pools.Remove. Lost: although something was in it; its file is gone."""

    Name: str
    Lost: bool = False


@dataclass(frozen=True)
class PoolInfo:
    """One pool. Status: as of a volume; besides growth_bytes: what the volumes in it may still take of it."""

    Name: str
    Volumes: tuple[str, ...]
    Status: dict[str, Any]


@dataclass(frozen=True)
class PoolsAnswer:
    """All pools, by name."""

    Pools: tuple[PoolInfo, ...]
