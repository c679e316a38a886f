"""What was removed and can be had again: backing files in a directory that no volume's name can be."""

from __future__ import annotations

import errno
from collections.abc import Iterable

from volplugin.kernel.backing import discard
from volplugin.kernel.disks import check_there, is_lost
from volplugin.kernel.syscalls import refused
from volplugin.resources import TrashedImage


class TrashedImages:
    """The places in the trash."""

    def ensure(self, want: TrashedImage) -> None:
        """Nothing is changed: the file comes there when its volume goes, and may have been taken out again."""

    def remove(self, want: TrashedImage) -> None:
        """The file is gone and its space is free."""
        if is_lost(want.path):
            return
        check_there(want.path)
        with refused("delete", want.path):
            discard(want.path)
            try:
                want.path.parent.rmdir()
            except OSError as exc:
                if exc.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                    raise

    def owned(self) -> Iterable[TrashedImage]:
        """Return nothing: a file that no record wants may be all that is left of somebody's data."""
        return ()
