"""dockerd as the reader of answers: what it decodes, what it refuses, and what it knows at any moment.

Written from docs/protocol.md and moby's libnetwork/drivers/remote and volume/drivers, not from the plugins' own types:
one misreading must not pass on both sides.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network
from typing import Any, NamedTuple

Answer = dict[str, Any]
Request = dict[str, Any]

_IFNAMSIZ = 16
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
# time.RFC3339 of Go, with the fraction that time.Time also takes.
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


def parse_mac(text: str) -> None:
    """Raises: AssertionError: Go's net.ParseMAC would not take it."""
    assert _MAC.fullmatch(text), text


class Refusal(NamedTuple):
    """An error that is the right answer. when: tells so from what dockerd knows and asks; text: what it must say."""

    method: str
    when: Callable[[Dockerd, Request], bool]
    text: str
    reason: str


class Dockerd:
    """What dockerd knows after each answer. `read` raises AssertionError where dockerd would choke."""

    def __init__(self) -> None:
        self.networks: dict[str, Request] = {}
        self.endpoints: dict[str, Request] = {}
        self.volumes: set[str] = set()
        self.pools: dict[str, str] = {}
        self.addresses: set[tuple[str, str]] = set()

    def read(self, method: str, request: Request, status: int, answer: Answer) -> None:
        """The answer is one that dockerd understands, and the right one for what it knows."""
        assert isinstance(answer, dict), "dockerd decodes an object"
        if status != 200:
            self._refused(method, request, status, answer)
            return
        assert answer.get("Err", "") == answer.get("Error", "") == "", "errors are never sent with 200"
        assert not any(refusal.method == method and refusal.when(self, request) for refusal in REFUSALS), "not refused"
        api, _, verb = method.partition(".")
        prefix = "_ipam_" if api == "IpamDriver" else "_"
        getattr(self, prefix + re.sub(r"(?<!^)(?=[A-Z])", "_", verb).lower())(request, answer)

    def _refused(self, method: str, request: Request, status: int, answer: Answer) -> None:
        assert status in (400, 500), "404 means that the method does not exist"
        assert isinstance(answer["Err"], str)
        assert answer["Err"]
        reasons = [each.text for each in REFUSALS if each.method == method and each.when(self, request)]
        assert any(re.search(text, answer["Err"]) for text in reasons), answer["Err"]

    def _activate(self, request: Request, answer: Answer) -> None:
        assert set(answer["Implements"]) <= {"NetworkDriver", "IpamDriver", "VolumeDriver"}
        assert answer["Implements"]

    # NetworkDriver

    def _get_capabilities(self, request: Request, answer: Answer) -> None:
        assert answer["Scope"] in ("local", "global")
        assert answer.get("ConnectivityScope", "local") in ("local", "global")
        assert isinstance(answer.get("GwAllocChecker", False), bool)

    def _gw_alloc_check(self, request: Request, answer: Answer) -> None:
        assert isinstance(answer.get("SkipIPv4", False), bool)
        assert isinstance(answer.get("SkipIPv6", False), bool)

    def _create_network(self, request: Request, answer: Answer) -> None:
        self.networks[request["NetworkID"]] = request

    def _delete_network(self, request: Request, answer: Answer) -> None:
        self.networks.pop(request["NetworkID"], None)

    def _create_endpoint(self, request: Request, answer: Answer) -> None:
        asked, given = request["Interface"], answer.get("Interface") or {}
        parsers = {"Address": IPv4Interface, "AddressIPv6": IPv6Interface, "MacAddress": parse_mac}
        for name, parse in parsers.items():
            if given.get(name):
                assert not asked[name], f"driver modified interface {name}"
                parse(given[name])
        assert asked["MacAddress"] or given["MacAddress"], "without a MAC address inspect shows none"
        self.endpoints[request["EndpointID"]] = request

    def _join(self, request: Request, answer: Answer) -> None:
        name = answer["InterfaceName"]
        assert 0 < len(name["SrcName"].encode()) < _IFNAMSIZ
        assert re.fullmatch(r"[a-z]{1,10}", name["DstPrefix"])
        network = self.networks[request["NetworkID"]]
        interface = self.endpoints[request["EndpointID"]]["Interface"]
        for member, address in (("Gateway", "Address"), ("GatewayIPv6", "AddressIPv6")):
            if answer.get(member):
                assert not network["Options"].get("com.docker.network.internal"), "an internal network has no gateway"
                assert ip_address(answer[member]) in ip_interface(interface[address]).network, "must be on-link"
        for route in answer.get("StaticRoutes") or []:
            ip_network(route["Destination"])
            assert route["RouteType"] in (0, 1)
        assert answer.get("DisableGatewayService") or answer.get("Gateway"), "docker_gwbridge would be added"

    def _leave(self, request: Request, answer: Answer) -> None:
        pass

    def _delete_endpoint(self, request: Request, answer: Answer) -> None:
        self.endpoints.pop(request["EndpointID"], None)

    def _endpoint_oper_info(self, request: Request, answer: Answer) -> None:
        assert isinstance(answer["Value"], dict)

    def _program_external_connectivity(self, request: Request, answer: Answer) -> None:
        pass

    def _revoke_external_connectivity(self, request: Request, answer: Answer) -> None:
        pass

    def _discover_new(self, request: Request, answer: Answer) -> None:
        pass

    # IpamDriver

    def _ipam_get_capabilities(self, request: Request, answer: Answer) -> None:
        assert isinstance(answer.get("RequiresMACAddress", False), bool)
        assert isinstance(answer.get("RequiresRequestReplay", False), bool)

    def _ipam_get_default_address_spaces(self, request: Request, answer: Answer) -> None:
        assert answer["LocalDefaultAddressSpace"]
        assert answer["GlobalDefaultAddressSpace"]

    def _ipam_request_pool(self, request: Request, answer: Answer) -> None:
        pool = ip_network(answer["Pool"])
        assert answer["Pool"] == (request["Pool"] or answer["Pool"])
        assert pool.version == (6 if request["V6"] else 4)
        assert answer["PoolID"]
        assert not any(
            pool.overlaps(ip_network(other)) for other in self.pools.values() if (":" in other) == request["V6"]
        )
        self.pools[answer["PoolID"]] = answer["Pool"]

    def _ipam_release_pool(self, request: Request, answer: Answer) -> None:
        self.pools.pop(request["PoolID"], None)

    def _ipam_request_address(self, request: Request, answer: Answer) -> None:
        given, pool = ip_interface(answer["Address"]), ip_network(self.pools[request["PoolID"]])
        assert given.network == pool, "the prefix length is the pool's"
        assert str(given.ip) == (request["Address"] or str(given.ip))
        held = (request["PoolID"], str(given.ip))
        assert held not in self.addresses, "given twice"
        self.addresses.add(held)

    def _ipam_release_address(self, request: Request, answer: Answer) -> None:
        self.addresses.discard((request["PoolID"], request["Address"]))

    # VolumeDriver

    def _capabilities(self, request: Request, answer: Answer) -> None:
        assert answer["Capabilities"]["Scope"] in ("local", "global")

    def _create(self, request: Request, answer: Answer) -> None:
        self.volumes.add(request["Name"])

    def _remove(self, request: Request, answer: Answer) -> None:
        self.volumes.discard(request["Name"])

    def _mount(self, request: Request, answer: Answer) -> None:
        assert answer["Mountpoint"].startswith("/")

    def _unmount(self, request: Request, answer: Answer) -> None:
        pass

    def _get(self, request: Request, answer: Answer) -> None:
        assert answer["Volume"]["Name"] == request["Name"]
        self._volume(answer["Volume"])

    def _list(self, request: Request, answer: Answer) -> None:
        for volume in answer["Volumes"]:
            self._volume(volume)
        assert {volume["Name"] for volume in answer["Volumes"]} == self.volumes

    def _volume(self, volume: Answer) -> None:
        assert isinstance(volume.get("Mountpoint", ""), str)
        assert isinstance(volume.get("Status") or {}, dict)
        if "CreatedAt" in volume:
            assert _RFC3339.fullmatch(volume["CreatedAt"]), "the volume would not exist"
            datetime.fromisoformat(volume["CreatedAt"])


def _has_option(*keys: str) -> Callable[[Dockerd, Request], bool]:
    return lambda _, request: bool(set(keys) & set(request.get("Opts") or {}))


def _unknown_volume(dockerd: Dockerd, request: Request) -> bool:
    return request["Name"] not in dockerd.volumes


def _unknown_network(dockerd: Dockerd, request: Request) -> bool:
    return request["NetworkID"] not in dockerd.networks


def _has_flag(_: Dockerd, request: Request) -> bool:
    return "flag" in request["Options"]["com.docker.network.generic"]


def _unknown_pool(dockerd: Dockerd, request: Request) -> bool:
    return request["PoolID"] not in dockerd.pools


def _has_ipam_option(_: Dockerd, request: Request) -> bool:
    return "pool" in (request["Options"] or {})


REFUSALS = (
    Refusal("IpamDriver.RequestPool", _has_ipam_option, "there is no such option", "the recorder took any"),
    Refusal("IpamDriver.RequestAddress", _unknown_pool, "is not known", "it was refused"),
    Refusal("NetworkDriver.GwAllocCheck", _has_flag, "there is no such option", "the recorder took any"),
    Refusal("NetworkDriver.CreateNetwork", _has_flag, "there is no such option", "the recorder took any"),
    Refusal("VolumeDriver.Create", _has_option("fail"), "there is no such option", "the recorder took any"),
    Refusal("VolumeDriver.Create", _has_option("type"), "it takes none or bind", "the recorder took any"),
    Refusal(
        "VolumeDriver.Create",
        lambda _, request: (request.get("Opts") or {}).get("size") == "5M",
        "at least",
        "too small for a filesystem with a journal",
    ),
    Refusal("VolumeDriver.Get", _unknown_volume, "cannot find", "that is how dockerd learns that it may create it"),
    Refusal("VolumeDriver.Path", _unknown_volume, "cannot find", "it was refused, or removed"),
    Refusal("VolumeDriver.Mount", _unknown_volume, "cannot find", "it was refused, or removed"),
    Refusal("NetworkDriver.CreateEndpoint", _unknown_network, "never made it", "it was refused"),
    Refusal("NetworkDriver.Join", _unknown_network, "never made it", "it was refused"),
    Refusal("NetworkDriver.ProgramExternalConnectivity", _unknown_network, "never made it", "it was refused"),
)
