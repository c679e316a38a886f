"""What is remembered of networks, endpoints and the containers that they belong to. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Options = dict[str, str]
Ports = dict[str, list[dict[str, str]] | None]


@dataclass(frozen=True)
class Target:
    """A container that is to have networks. netns exists; in `files` its hosts and resolv.conf are written.

    hostname: of its own accord or its short id. extra_hosts: name:address, as `--add-host` has them.
    """

    id: str
    name: str
    hostname: str
    netns: Path
    files: Path
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self) | {"netns": str(self.netns), "files": str(self.files)}

    @classmethod
    def load(cls, record: dict[str, Any]) -> Target:
        """Return what `record` was made of."""
        lists = {key: tuple(value) for key, value in record.items() if isinstance(value, list)}
        return cls(**{**record, **lists, "netns": Path(record["netns"]), "files": Path(record["files"])})


@dataclass(frozen=True)
class Pool:
    """A subnet that IPAM gave to a network. gateway and aux are CIDR with the pool's prefix length.

    asked: the user named the subnet, so that addresses may be wished for.
    """

    id: str
    space: str
    pool: str
    gateway: str = ""
    aux: dict[str, str] = field(default_factory=dict)
    asked: bool = False

    def data(self) -> dict[str, Any]:
        """Return the IPAMData of NetworkDriver."""
        optional = {"Gateway": self.gateway, "AuxAddresses": self.aux}
        return {"AddressSpace": self.space, "Pool": self.pool} | {key: each for key, each in optional.items() if each}


@dataclass(frozen=True)
class Network:
    """A network. body: as it was asked for. ready: its driver has it, and nobody is removing it."""

    id: str
    name: str
    driver: str
    body: dict[str, Any]
    created: str
    ready: bool = False
    pools4: tuple[Pool, ...] = ()
    pools6: tuple[Pool, ...] = ()

    @property
    def internal(self) -> bool:
        """Whether there is no way out of it."""
        return bool(self.body.get("Internal"))

    @property
    def ipam_driver(self) -> str:
        """The IPAM driver, `default` for the built-in one."""
        return (self.body.get("IPAM") or {}).get("Driver") or "default"

    @property
    def options(self) -> Options:
        """The driver's options."""
        return {str(key): str(value) for key, value in (self.body.get("Options") or {}).items()}

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def load(cls, record: dict[str, Any]) -> Network:
        """Return what `record` was made of."""
        pools = {key: tuple(Pool(**pool) for pool in record[key]) for key in ("pools4", "pools6")}
        return cls(**{**record, **pools})


@dataclass(frozen=True)
class Address:
    """An address of an endpoint, CIDR, and the pool that it came from."""

    pool: str
    cidr: str

    @property
    def ip(self) -> str:
        """The address without its prefix length."""
        return self.cidr.partition("/")[0]

    @property
    def prefix_length(self) -> int:
        """The prefix length."""
        return int(self.cidr.partition("/")[2])


@dataclass(frozen=True)
class Endpoint:
    """A container's place in a network. steps: what must be undone.

    external: it is the way out of the container. published: its port map, as its driver has made it come true.
    """

    id: str
    network: str
    container: str
    wish: dict[str, Any]
    steps: tuple[str, ...] = ()
    address4: Address | None = None
    address6: Address | None = None
    mac: str = ""
    link: str = ""
    ifname: str = ""
    gateway4: str = ""
    gateway6: str = ""
    default_gateway4: bool = False
    default_gateway6: bool = False
    external: bool = False
    published: list[dict[str, Any]] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def load(cls, record: dict[str, Any]) -> Endpoint:
        """Return what `record` was made of."""
        addresses = {key: Address(**record[key]) if record[key] else None for key in ("address4", "address6")}
        return cls(**{**record, **addresses, "steps": tuple(record["steps"])})
