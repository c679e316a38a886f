"""Every method of pyvol's socket for administrators."""

from __future__ import annotations

from pluginkit.events import ring
from volplugin.admin import driver as admin
from volplugin.archive import driver as archive
from volplugin.doctor import driver as doctor
from volplugin.instants import driver as instants
from volplugin.pools import driver as pools
from volplugin.upkeep import driver as upkeep

METHODS = (
    *admin.METHODS,
    *archive.METHODS,
    *instants.METHODS,
    *upkeep.METHODS,
    *doctor.METHODS,
    *pools.METHODS,
    *ring.METHODS,
)
