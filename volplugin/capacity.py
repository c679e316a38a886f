"""Whether a volume more fits on the host's disk, when all that were promised grow to their size. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pluginkit.errors import Exhausted
from volplugin.values import format_size, rough_size


@dataclass(frozen=True)
class Claim:
    """A volume's size, and what of it is on the disk already."""

    size_bytes: int
    allocated_bytes: int

    @property
    def growth_bytes(self) -> int:
        """What the volume may still take."""
        return max(0, self.size_bytes - self.allocated_bytes)


@dataclass(frozen=True)
class Overcommit:
    """The administrator's policy: volumes may grow to `ratio` times what is available; None: no matter how far."""

    ratio: float | None


NEVER = Overcommit(1.0)
ALWAYS = Overcommit(None)


def parse_overcommit(text: str) -> Overcommit:
    """Return the policy that `never`, `always` or `ratio:N` names. Raises: ValueError."""
    if text in ("never", "always"):
        return NEVER if text == "never" else ALWAYS
    word, _, number = text.partition(":")
    ratio = float(number) if word == "ratio" and number.replace(".", "", 1).isdecimal() else 0.0
    if not 1 <= ratio <= 1000:
        raise ValueError(text)
    return Overcommit(ratio)


def growth(claims: Iterable[Claim]) -> int:
    """Return what all volumes together may still take."""
    return sum(claim.growth_bytes for claim in claims)


def check(
    policy: Overcommit,
    available_bytes: int,
    sizes_bytes: Iterable[int],
    growth_bytes: Callable[[], int],
    name: str,
    size_bytes: int,
) -> None:
    """The volume fits as the policy says.

    sizes_bytes: of all volumes. growth_bytes: what they may still take, at most their sizes; it is slow to find out.

    Raises: Exhausted: it does not.
    """
    if policy.ratio is None:
        return
    limit = available_bytes * policy.ratio
    if sum(sizes_bytes) + size_bytes <= limit:
        return
    promised = growth_bytes()
    if promised + size_bytes > limit:
        raise Exhausted(
            f"cannot give {name} {format_size(size_bytes)}: the disk has {rough_size(available_bytes)} available, and"
            f" volumes may still grow by {rough_size(promised)}; give a smaller size, make room, or let pyvol serve"
            " --overcommit=ratio:N or always"
        )
