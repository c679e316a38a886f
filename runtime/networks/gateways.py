"""Which of a container's networks leads out of it: it has the default route, and publishes the ports. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from runtime.networks.records import Endpoint, Network


def choose(endpoints: Iterable[Endpoint], networks: Mapping[str, Network]) -> tuple[Endpoint | None, Endpoint | None]:
    """Return the endpoints that are the gateways of IPv4 and IPv6. Source: moby sandbox.go, Endpoint.Less."""

    def order(endpoint: Endpoint) -> tuple[int, int, str]:
        number = bool(endpoint.gateway4) + bool(endpoint.gateway6)
        return -int(endpoint.wish.get("GwPriority") or 0), -number, networks[endpoint.network].name

    able = [endpoint for endpoint in endpoints if not networks[endpoint.network].internal]

    def first(has: Callable[[Endpoint], str]) -> Endpoint | None:
        return min((endpoint for endpoint in able if has(endpoint)), key=order, default=None)

    return first(lambda endpoint: endpoint.gateway4), first(lambda endpoint: endpoint.gateway6)
