"""What a network of the cluster is to the engines of its hosts, and what follows from who has it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pluginkit import wire

# On networks that a mirror made; its value says of which definition.
LABEL = "pynet.mirror"
# What is another thing on each host.
_OF_ONE_HOST = frozenset({
    "com.docker.network.bridge.name",
    "com.docker.network.bridge.host_binding_ipv4",
    "com.docker.network.bridge.trusted_host_interfaces",
    "com.docker.network.host_ipv4",
    "com.docker.network.host_ipv6",
    "host_binding_ipv6",
})  # fmt: skip
# Said by fields of their own.
_SWITCHES = frozenset({"com.docker.network.enable_ipv4", "com.docker.network.enable_ipv6"})


@dataclass(frozen=True)
class Definition:
    """A network as `docker network create` was asked for it. name: the engine's. origin: its ID where it was made.

    subnets: each with its gateway, "" for none. auxiliary: addresses that no host gives out, by their names.
    """

    name: str
    origin: str
    internal: bool
    ipv4: bool
    ipv6: bool
    options: dict[str, str]
    labels: dict[str, str]
    subnets: tuple[tuple[str, str], ...]
    auxiliary: dict[str, str]
    schema: int = 1

    @property
    def digest(self) -> str:
        """What tells it from others, wherever it was made."""
        return hashlib.sha256(wire.encode(replace(self, origin=""))).hexdigest()[:16]


@dataclass(frozen=True)
class Local:
    """An overlay of the cluster on this engine. overlay: what the cluster calls it. mirrored: the label's value."""

    id: str
    overlay: str
    mirrored: str
    definition: Definition


@dataclass(frozen=True)
class Step:
    """One thing to do. definition: to publish or to create; network: to remove from the engine, by its ID."""

    do: Literal["publish", "withdraw", "create", "remove"]
    overlay: str
    definition: Definition | None = None
    network: str = ""


def steps(locals_: Iterable[Local], definitions: Mapping[str, Definition], gone: Container[str]) -> Iterator[Step]:
    """Yield what makes an engine have what the cluster defines, and the cluster define what was made on that engine.

    definitions: by the overlay's name. gone: names of those whose network is no more where it was made. What was made
    by hand is never removed, and what a mirror made only when nothing defines it any more.
    """
    here = {local.overlay: local for local in locals_}
    for overlay, local in here.items():
        wanted = definitions.get(overlay)
        if local.mirrored and (wanted is None or wanted.digest != local.mirrored):
            yield Step("remove", overlay, network=local.id)
        elif not local.mirrored and (wanted is None or (wanted.origin == local.id and wanted != local.definition)):
            yield Step("publish", overlay, local.definition)
    for overlay, definition in definitions.items():
        if overlay in gone:
            yield Step("withdraw", overlay)
        elif overlay not in here:
            yield Step("create", overlay, definition)


def parse_local(inspected: Mapping[str, Any], driver: str) -> Local | None:
    """Return an engine's network; None if its addresses are not the cluster's, so that it cannot be mirrored.

    driver: as that engine knows pynet.
    """
    options, ipam, labels = inspected["Options"] or {}, inspected["IPAM"], inspected["Labels"] or {}
    overlay = (ipam["Options"] or {}).get("name", "")
    is_ours = (inspected["Driver"], ipam["Driver"], inspected["Scope"]) == (driver, driver, "local")
    if not is_ours or options.get("type") != "overlay" or not overlay or options.get("name") != overlay:
        return None
    config = ipam["Config"] or []
    definition = Definition(
        name=inspected["Name"],
        origin=inspected["Id"],
        internal=inspected["Internal"],
        # Not told by engines that have no network without.
        ipv4=inspected.get("EnableIPv4", True),
        ipv6=inspected["EnableIPv6"],
        options={key: value for key, value in sorted(options.items()) if key not in _OF_ONE_HOST | _SWITCHES},
        labels={key: value for key, value in sorted(labels.items()) if key != LABEL},
        # Some engines tell a gateway that they have not been asked for with the length of its prefix.
        subnets=tuple(sorted((each["Subnet"], each.get("Gateway", "").partition("/")[0]) for each in config)),
        auxiliary={
            key: value for each in config for key, value in sorted((each.get("AuxiliaryAddresses") or {}).items())
        },
    )
    return Local(inspected["Id"], overlay, labels.get(LABEL, ""), definition)


def creation(definition: Definition, overlay: str, driver: str) -> dict[str, Any]:
    """Return the body by which an engine makes the network. Source: Docker Engine API, /networks/create."""
    config: list[dict[str, Any]] = [
        {"Subnet": subnet, **({"Gateway": gateway} if gateway else {})} for subnet, gateway in definition.subnets
    ]
    if config and definition.auxiliary:
        config[0]["AuxiliaryAddresses"] = definition.auxiliary
    return {
        "Name": definition.name,
        # Else an engine before 25 makes a second one of the same name.
        "CheckDuplicate": True,
        "Driver": driver,
        "Internal": definition.internal,
        "EnableIPv6": definition.ipv6,
        **({} if definition.ipv4 else {"EnableIPv4": False}),
        "Options": definition.options,
        "Labels": {**definition.labels, LABEL: definition.digest},
        "IPAM": {"Driver": driver, "Options": {"name": overlay}, "Config": config},
    }
