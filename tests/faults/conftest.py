"""The namespaces of the tests of networks and of volumes."""

from tests.network.conftest import netns
from tests.volume.conftest import mount_namespace

__all__ = ["mount_namespace", "netns"]
