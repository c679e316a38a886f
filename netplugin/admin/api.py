"""Every method of pynet's socket for administrators."""

from __future__ import annotations

from netplugin.admin import driver
from netplugin.publish import publisher
from pluginkit.events import ring

METHODS = (*driver.METHODS, *publisher.METHODS, *ring.METHODS)
