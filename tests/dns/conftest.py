"""A network namespace with containers for each test that asks for one."""

from tests.network.conftest import containers, netlink, netns, state_dir

__all__ = ["containers", "netlink", "netns", "state_dir"]
