"""A host without a cluster."""

from __future__ import annotations

from netplugin.records import Endpoint, Network
from pluginkit.errors import BadRequest


class Alone:
    """What verbs are told where there is no cluster."""

    def join(self, network: Network) -> Network:
        """Raises: BadRequest: an overlay needs to know its hosts."""
        raise BadRequest(
            f"cannot create network {network.id[:12]}: nobody says which hosts the overlay has; add -o peers=ADDRESS,"
            "ADDRESS, or run pynet with PYNET_CLUSTER=etcd://HOST"
        )

    def claim(self, network: Network, endpoint: Endpoint) -> None:
        """Nothing is done: the engine's word is enough."""

    def release(self, network: Network, endpoint_id: str) -> None:
        """Nothing is done."""

    def look_again(self) -> None:
        """Nothing is done."""
