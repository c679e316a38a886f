"""What the commands of archives ask on the administrator's socket."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckRequest:
    """Archives.Check. Opts: as with -o."""

    Name: str
    Opts: dict[str, str]


@dataclass(frozen=True)
class CheckAnswer:
    """All options that the volume would have."""

    Opts: dict[str, str]


@dataclass(frozen=True)
class AdoptRequest:
    """Archives.Adopt. Opts: as with -o. Image: the name of a staged one."""

    Name: str
    Opts: dict[str, str]
    Image: str
