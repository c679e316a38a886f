"""pynet: a Docker network driver. Bridges with NAT and published ports."""
