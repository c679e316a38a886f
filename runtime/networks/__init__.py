"""Networks: made by their drivers, addressed by their IPAM drivers, joined by containers. Source: moby libnetwork."""

from runtime.networks.networks import Networks
from runtime.networks.records import Target

__all__ = ["Networks", "Target"]
