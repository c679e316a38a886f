"""Whether volumes are in use, and how much is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from volplugin.resources import BindMount, Mount


class Usage(Protocol):
    """What is asked of the machine and never recorded."""

    def holders(self, mount: Mount | BindMount) -> list[str]:
        """Return, in words, where other than at our own mount point the volume is mounted."""

    def space(self, mount: Mount | BindMount) -> dict[str, int | bool]:
        """Return the bytes that the volume takes. Raises: KernelError."""

    def is_there(self, disk: Path) -> bool:
        """Tell whether there is the directory of volumes of a pool: it is mounted."""

    def is_lost(self, disk: Path) -> bool:
        """Tell whether the directory was in a pool whose file is gone."""

    def is_taken(self, mount: Mount | BindMount) -> bool:
        """Tell whether there is a finished backing file where that of the volume would be, recorded or not."""

    def available(self, disk: Path) -> int:
        """Return the bytes that volumes in the directory may still take of its disk. Raises: KernelError."""

    def allocated(self, mount: Mount | BindMount) -> int:
        """Return the bytes that the volume takes of the disk. Raises: KernelError."""

    def check_key(self, mount: Mount | BindMount) -> None:
        """The volume's key could be read, if it has one. Raises: PluginError."""

    def has_reflinks(self, disk: Path) -> bool:
        """Tell whether a copy of a backing file in the directory takes no time. Raises: KernelError."""

    def volumes(self, disk: Path) -> list[str]:
        """Return the names of the volumes whose data is in the directory, recorded or not."""
