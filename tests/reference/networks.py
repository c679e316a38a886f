"""The simplest NetworkDriver that could be: two dictionaries. It says what each verb's answer has to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.network.kernel_text import records
from tests.reference.step import BAD, REFUSED, Ask, Step

# Of the first eight digits the names in the kernel are made.
NETWORKS = tuple(f"{number:08x}" * 8 for number in range(0xA0, 0xA4))
ENDPOINTS = tuple(f"{number:08x}" * 8 for number in range(0xE0, 0xE6))
SUBNETS = range(3)
HOSTS = range(2, 6)
# First host port and how many: two of them overlap.
RUNS = ((20000, 1), (20001, 3), (20003, 1))
PROTOCOLS = {6: "tcp", 17: "udp"}
# Its directory is not there, so that nobody can tell whether the sandbox is gone.
SANDBOX = "/sandboxes/of/a/test"


@dataclass(frozen=True)
class Network:
    subnet: int
    internal: bool

    @property
    def dual(self) -> bool:
        return self.subnet % 2 == 1


@dataclass(frozen=True)
class Endpoint:
    """ports: protocol, first host port, how many; None: none are open."""

    network: str
    host: int
    joined: bool = False
    ports: tuple[int, int, int] | None = None


class Networks:
    """What the plugin has to have: networks and endpoints by their IDs."""

    def __init__(self) -> None:
        self.networks: dict[str, Network] = {}
        self.endpoints: dict[str, Endpoint] = {}

    def create_network(self, network_id: str, subnet: int, internal: bool) -> Step:
        wanted, known = Network(subnet, internal), self.networks.get(network_id)
        [other] = [one for one, has in self.networks.items() if has.subnet == subnet and one != network_id] or [""]
        data = {"AddressSpace": "Local", "Pool": f"10.100.{subnet}.0/24", "Gateway": f"10.100.{subnet}.1/24"}
        data6 = {"AddressSpace": "Local", "Pool": f"fd00:{subnet}::/64", "Gateway": f"fd00:{subnet}::1/64"}
        body = {
            "NetworkID": network_id,
            "Options": {"com.docker.network.internal": internal},
            "IPv4Data": [data],
            "IPv6Data": [data6] if wanted.dual else [],
        }

        def then(_answer: Mapping[str, Any]) -> None:
            # Nobody is on it, and the engine gives a subnet only once: its deletion was missed.
            self._forget(other)
            self.networks[network_id] = wanted

        method = "NetworkDriver.CreateNetwork"
        if known not in (None, wanted):
            return Step(method, body, REFUSED, "it exists with other properties")
        if self._of(other):
            return Step(method, body, REFUSED, "overlaps")
        return Step(method, body, then=then, removes=frozenset({other}))

    def delete_network(self, network_id: str) -> Step:
        removes = frozenset({network_id, *self._of(network_id)})
        body = {"NetworkID": network_id}
        return Step("NetworkDriver.DeleteNetwork", body, then=lambda _: self._forget(network_id), removes=removes)

    def create_endpoint(self, network_id: str, endpoint_id: str, host: int) -> Step:
        network, known = self.networks.get(network_id), self.endpoints.get(endpoint_id)
        subnet = network.subnet if network else 0
        address6 = f"fd00:{subnet}::{host}/64" if network and network.dual else ""
        body = _ids(network_id, endpoint_id) | {
            "Interface": {"Address": f"10.100.{subnet}.{host}/24", "AddressIPv6": address6},
            "Options": {},
        }

        # The engine gives an address only once: who had it is dead.
        stale = {one for one in self._of(network_id) if self.endpoints[one].host == host}

        def then(answer: Mapping[str, Any]) -> None:
            assert answer["Interface"]["MacAddress"] == f"02:42:0a:64:{subnet:02x}:{host:02x}"
            for one in stale:
                del self.endpoints[one]
            self.endpoints[endpoint_id] = Endpoint(network_id, host)

        method = "NetworkDriver.CreateEndpoint"
        if network is None:
            return Step(method, body, REFUSED, "this driver never made it")
        if known is not None and known.network != network_id:
            return Step(method, body, REFUSED, "another network has it")
        return Step(method, body, then=then, removes=frozenset(stale - {endpoint_id}))

    def delete_endpoint(self, network_id: str, endpoint_id: str) -> Step:
        def then(_answer: Mapping[str, Any]) -> None:
            if self._known(network_id, endpoint_id):
                del self.endpoints[endpoint_id]

        removes = frozenset({endpoint_id} if self._known(network_id, endpoint_id) else ())
        return Step("NetworkDriver.DeleteEndpoint", _ids(network_id, endpoint_id), then=then, removes=removes)

    def join(self, network_id: str, endpoint_id: str) -> Step:
        def then(answer: Mapping[str, Any]) -> None:
            network = self.networks[network_id]
            assert answer["InterfaceName"] == {"SrcName": f"pnc{endpoint_id[:8]}", "DstPrefix": "eth"}
            assert answer["Gateway"] == ("" if network.internal else f"10.100.{network.subnet}.1")
            self.endpoints[endpoint_id] = replace(self.endpoints[endpoint_id], joined=True)

        body = _ids(network_id, endpoint_id) | {"SandboxKey": SANDBOX, "Options": {}}
        return self._on_known("Join", network_id, endpoint_id, Step("NetworkDriver.Join", body, then=then))

    def leave(self, network_id: str, endpoint_id: str) -> Step:
        def then(_answer: Mapping[str, Any]) -> None:
            if known := self._known(network_id, endpoint_id):
                self.endpoints[endpoint_id] = replace(known, joined=False, ports=None)

        return Step("NetworkDriver.Leave", _ids(network_id, endpoint_id), then=then)

    def publish(self, network_id: str, endpoint_id: str, protocol: int, run: tuple[int, int]) -> Step:
        first, count = run
        ports = [
            {"Proto": protocol, "Port": port - first + 80, "HostIP": "", "HostPort": port, "HostPortEnd": port}
            for port in range(first, first + count)
        ]
        body = _ids(network_id, endpoint_id) | {"Options": {"com.docker.network.portmap": ports}}

        def then(_answer: Mapping[str, Any]) -> None:
            if not self.networks[network_id].internal:
                self.endpoints[endpoint_id] = replace(self.endpoints[endpoint_id], ports=(protocol, first, count))

        method = "NetworkDriver.ProgramExternalConnectivity"
        step = self._on_known("publish", network_id, endpoint_id, Step(method, body, then=then))
        if step.status == REFUSED or self.networks[network_id].internal or not self._taken(endpoint_id, protocol, run):
            return step
        return Step(method, body, REFUSED, "")

    def revoke(self, network_id: str, endpoint_id: str) -> Step:
        def then(_answer: Mapping[str, Any]) -> None:
            if known := self._known(network_id, endpoint_id):
                self.endpoints[endpoint_id] = replace(known, ports=None)

        return Step("NetworkDriver.RevokeExternalConnectivity", _ids(network_id, endpoint_id), then=then)

    def oper_info(self, network_id: str, endpoint_id: str) -> Step:
        def then(answer: Mapping[str, Any]) -> None:
            known = self._known(network_id, endpoint_id)
            runs = answer["Value"]["com.docker.network.portmap"]
            found = {(run["Proto"], run["HostPort"], run["HostPortEnd"] - run["HostPort"] + 1) for run in runs}
            assert found == ({known.ports} if known and known.ports else set())

        return Step("NetworkDriver.EndpointOperInfo", _ids(network_id, endpoint_id), then=then)

    def is_recorded(self, state_dir: Path) -> None:
        """Assert that the plugin's records say what this model says, and that no move is left unfinished."""
        networks, endpoints, pending = records(state_dir)
        assert pending == []
        assert {one.id: _network(one) for one in networks} == self.networks
        found = {
            one.id: (one.network_id, str(one.address4), bool(one.sandbox), tuple(map(_run, one.ports)))
            for one in endpoints
        }
        assert found == {
            endpoint_id: (
                one.network,
                f"10.100.{self.networks[one.network].subnet}.{one.host}/24",
                one.joined,
                (one.ports,) if one.ports else (),
            )
            for endpoint_id, one in self.endpoints.items()
        }

    def finished(self, refused: Step, state_dir: Path) -> None:
        """What that request was to remove is gone, if the records say so: nothing else may have happened."""
        networks, endpoints, _ = records(state_dir)
        for endpoint_id in refused.removes - {one.id for one in endpoints}:
            self.endpoints.pop(endpoint_id, None)
        for network_id in refused.removes - {one.id for one in networks}:
            self.networks.pop(network_id, None)

    def lost_power(self, state_dir: Path) -> None:
        """The endpoints are those of the records; of networks nothing is ever lost."""
        _, endpoints, _ = records(state_dir)
        self.endpoints = {one.id: _endpoint(one) for one in endpoints}

    def adopt(self, state_dir: Path) -> None:
        """The model is what the records say."""
        networks, endpoints, _ = records(state_dir)
        self.networks = {one.id: _network(one) for one in networks}
        self.endpoints = {one.id: _endpoint(one) for one in endpoints}

    def end(self, ask: Ask) -> None:
        """All networks are deleted, and what is on them with them."""
        for network_id in NETWORKS:
            self.delete_network(network_id).take(ask)

    def _forget(self, network_id: str) -> None:
        for endpoint_id in self._of(network_id):
            del self.endpoints[endpoint_id]
        self.networks.pop(network_id, None)

    def _of(self, network_id: str) -> list[str]:
        return [one for one, endpoint in self.endpoints.items() if endpoint.network == network_id]

    def _known(self, network_id: str, endpoint_id: str) -> Endpoint | None:
        known = self.endpoints.get(endpoint_id)
        return known if known is not None and known.network == network_id else None

    def _on_known(self, what: str, network_id: str, endpoint_id: str, step: Step) -> Step:
        if network_id not in self.networks:
            return replace(step, status=REFUSED, says="this driver never made it")
        if self._known(network_id, endpoint_id) is None:
            return replace(step, status=REFUSED, says="it is not known")
        return step

    def _taken(self, endpoint_id: str, protocol: int, run: tuple[int, int]) -> bool:
        wanted = range(run[0], run[0] + run[1])
        others = [one.ports for other, one in self.endpoints.items() if other != endpoint_id and one.ports]
        return any(
            protocol == theirs and set(wanted) & set(range(first, first + count)) for theirs, first, count in others
        )


WRONG = (
    Step("NetworkDriver.CreateNetwork", {"NetworkID": NETWORKS[0]}, BAD, "it has no subnet"),
    Step("NetworkDriver.CreateNetwork", {"NetworkID": "-h", "IPv4Data": [{"Pool": "10.101.0.0/24"}]}, BAD, "ID"),
    Step("NetworkDriver.CreateNetwork", {"NetworkID": NETWORKS[0], "IPv4Data": [{"Pool": "10.101.0.1/24"}]}, BAD),
    Step(
        "NetworkDriver.CreateNetwork",
        {"NetworkID": NETWORKS[0], "IPv4Data": [{"Pool": "10.101.0.0/24", "Gateway": "10.9.0.1/24"}]},
        BAD,
        "outside",
    ),
    Step(
        "NetworkDriver.CreateNetwork",
        {
            "NetworkID": NETWORKS[0],
            "IPv4Data": [{"Pool": "10.101.0.0/24"}],
            "Options": {"com.docker.network.generic": {"no-such-option": "1"}},
        },
        BAD,
        "no-such-option",
    ),
    Step("NetworkDriver.CreateNetwork", {"NetworkID": 5}, BAD),
    Step("NetworkDriver.DeleteNetwork", {}, BAD),
    Step("NetworkDriver.Join", {"NetworkID": NETWORKS[0], "EndpointID": ENDPOINTS[0]}, BAD),
)


def _ids(network_id: str, endpoint_id: str) -> dict[str, Any]:
    return {"NetworkID": network_id, "EndpointID": endpoint_id}


def _network(record: Any) -> Network:
    return Network(int(str(record.subnets4[0].pool).split(".")[2]), record.internal)


def _endpoint(record: Any) -> Endpoint:
    host = int(str(record.address4.ip).split(".")[3])
    return Endpoint(record.network_id, host, bool(record.sandbox), _run(record.ports[0]) if record.ports else None)


def _run(port: Any) -> tuple[int, int, int]:
    [protocol] = [number for number, name in PROTOCOLS.items() if name == port.protocol]
    return protocol, port.host_port, port.count
