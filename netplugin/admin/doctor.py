"""What is wrong on a host, with cause and cure: records, engine and kernel held against each other. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from netplugin.admin.wire import NetworkInfo, ServiceAnswer, WayInfo, span
from netplugin.engine.view import EngineView
from netplugin.machine import HostFacts
from netplugin.overlay.decide import OVERHEAD_BYTES
from pluginkit.doctor.findings import Finding, worst_first

# etcd takes a new leader where one of its members says nothing for about as long.
_SLOW_MS = 1000
# What etcd's answers say is whole seconds, and some time on the way.
_APART_S = 5
# Fixes. reconcile: records and kernel agree again. collect: what the engines have forgotten is deleted.


@dataclass(frozen=True)
class Sight:
    """All that was looked at. before, after: the engines, looked at around the rest; None: they could not be asked."""

    service: ServiceAnswer
    networks: tuple[NetworkInfo, ...]
    before: EngineView | None
    after: EngineView | None
    host: HostFacts
    ways: tuple[WayInfo, ...] = ()


def examine(sight: Sight) -> list[Finding]:
    """Return what was found, the worst first."""
    found = [
        *_service(sight),
        *_etcd(sight),
        *_engine(sight),
        *_way_out(sight),
        *_closed(sight),
        *_paths(sight),
        *_clock(sight),
        *_ways(sight),
        *_alone(sight),
        *_addresses(sight),
        *_published(sight),
    ]
    return worst_first(found)


def _service(sight: Sight) -> Iterator[Finding]:
    last = sight.service.LastReconcile
    for failure in last.Failures if last else ():
        yield Finding(
            "fault", f"not as recorded: {failure}", "--fix tries again; what it names is in the way", "reconcile"
        )
    for record in sight.service.Unfinished:
        what = f"a change of {record} was cut short"
        yield Finding("fault", what, "--fix finishes or undoes it; else the next check does", "reconcile")


def _etcd(sight: Sight) -> Iterator[Finding]:
    etcd = sight.service.Etcd
    if etcd is None:
        return
    if etcd.Failure:
        last = f"answered last at {etcd.AnsweredAt:%Y-%m-%d %H:%M:%S}Z" if etcd.AnsweredAt else "has not answered yet"
        cure = "until it does, new networks are refused, and what other hosts do is not known here; the rest goes on"
        yield Finding("fault", f"etcd {last}: {etcd.Failure}", cure)
    elif etcd.TookMs >= _SLOW_MS:
        cure = "what is new on overlays waits for it; are its disks, its hosts or the way there slow? its log says more"
        yield Finding("warning", f"etcd took {etcd.TookMs} ms to answer a small question", cure)


def _ways(sight: Sight) -> Iterator[Finding]:
    for way in sight.ways:
        by = f"UDP port {way.Port}"
        if way.State == "silent":
            what = f"the overlay's peer {way.Peer} does not answer on {by}"
            yield Finding("warning", what, f"does pynet run there, and does each firewall let {by} through?")
        elif way.State == "checksums":
            what = f"packets to {way.Peer} have wrong checksums if the network card computes them"
            cure = "pynet has switched that off on its VXLAN devices, which costs time; a newer driver may help"
            yield Finding("note", what, cure)
        elif way.State == "narrow":
            what = f"large packets to {way.Peer} by {by} get lost on the way, small ones arrive"
            cure = "a hop takes less than this host's route says, and its ICMP is lost: let that through; or create the"
            yield Finding("warning", what, f"{cure} overlays again with a smaller -o com.docker.network.driver.mtu")


def _alone(sight: Sight) -> Iterator[Finding]:
    for network in sight.networks:
        if network.Alone:
            what = f"the overlay {_name(network, sight)} is on this host alone"
            cure = "run pynet with PYNET_CLUSTER; where it does, its log says why the cluster does not take the network"
            yield Finding("note", what, cure)


def _engine(sight: Sight) -> Iterator[Finding]:
    before, after = sight.before, sight.after
    if before is None or after is None:
        yield Finding("warning", "no engine could be asked what it knows", "say where it is: --engine SOCKET")
        return
    ours = {network.ID for network in sight.networks}
    # What came or went while we looked is neither here nor there.
    for network_id in before.networks.keys() & after.networks.keys() - ours:
        network = after.networks[network_id]
        if network.driver.partition(":")[0] == "pynet":
            what = f"the engine has a network {network.name}, of which pynet knows nothing"
            yield Finding("fault", what, f"docker network rm {network.name}, and create it again")
    for info in sight.networks:
        if info.ID not in before.networks.keys() | after.networks.keys():
            pools = ", ".join(subnet.Pool for subnet in info.Subnets)
            what = f"no engine knows network {info.ID[:12]} ({pools})"
            cure = f"--fix deletes it if an engine knew it once; if nobody uses it: pynet delete-network {info.ID}"
            yield Finding("fault", what, cure, "collect")
    known = {endpoint.ID for info in sight.networks for endpoint in info.Endpoints}
    for endpoint_id in before.endpoints.keys() & after.endpoints.keys() - known:
        endpoint = after.endpoints[endpoint_id]
        if endpoint.network_id in ours:
            name = after.network_name(endpoint.network_id)
            what = f"container {endpoint.container} is on network {name}, of which pynet knows nothing"
            yield Finding("fault", what, f"docker restart {endpoint.container}")


def _way_out(sight: Sight) -> Iterator[Finding]:
    """What keeps packets from going through this host."""
    routed = [network for network in sight.networks if not network.Internal]
    families = {ip_network(subnet.Pool).version for network in routed for subnet in network.Subnets}
    for version in sorted(families):
        if version not in sight.host.forwarding:
            cure = "--fix switches it on; look for who switches it off, such as a file in /etc/sysctl.d"
            yield Finding("fault", f"the host forwards no IPv{version} packets", cure, "reconcile")
    for chain in sight.host.drops if routed else ():
        what = f"{chain} drops what its own rules do not accept, and an accept of pynet's elsewhere is none there"
        yield Finding("warning", what, "let it accept what comes from pn-* and what goes there by DNAT or as an answer")
    for network in routed:
        if sight.host.mtu is not None and sight.host.mtu < network.MTU:
            what = f"the MTU of {_name(network, sight)} is {network.MTU}, that of the way out {sight.host.mtu}"
            cure = f"create it again with -o com.docker.network.driver.mtu={sight.host.mtu}"
            yield Finding("warning", f"{what}: large packets need fragments or get lost", cure)


def _closed(sight: Sight) -> Iterator[Finding]:
    """What keeps packets from going through single links of this host."""
    host = sight.host
    routed = [network for network in sight.networks if not network.Internal]
    for network in routed:
        if network.Bridge in host.closed and any(ip_network(subnet.Pool).version == 4 for subnet in network.Subnets):
            what = f"the host forwards no IPv4 packets of {_name(network, sight)}: {_switch(network.Bridge)} is 0"
            yield Finding(
                "fault", what, "--fix sets it; look for who does, such as a file in /etc/sysctl.d", "reconcile"
            )
    if routed and host.way_out in host.closed:
        what = f"the host forwards no IPv4 packets that come by {host.way_out}: {_switch(host.way_out)} is 0"
        yield Finding(
            "fault", what, f"sysctl -w {_switch(host.way_out)}=1; others set it, such as a file in /etc/sysctl.d"
        )
    for link in host.expiring if routed else ():
        what = f"the way out for IPv6, by {link}, ends soon: a host that forwards hears no routers"
        yield Finding("warning", what, f"sysctl -w {_switch(link, 6, 'accept_ra')}=2")


def _paths(sight: Sight) -> Iterator[Finding]:
    """Ways to peers that carry less than the frames of an overlay need."""
    for network in sight.networks:
        for peer in network.Hosts:
            way = sight.host.ways.get(peer)
            room = way.mtu - OVERHEAD_BYTES[way.source.version] if way is not None and not way.local else network.MTU
            if room < network.MTU:
                what = f"the MTU of {_name(network, sight)} is {network.MTU}, and the way to {peer} has room for {room}"
                cure = f"a larger MTU on that way; or create it again with -o com.docker.network.driver.mtu={room}"
                yield Finding("warning", f"{what}: large packets need fragments or get lost", cure)


def _clock(sight: Sight) -> Iterator[Finding]:
    if not sight.host.synchronised:
        cure = "apt-get install systemd-timesyncd or chrony; certificates, schedules, --for and logs go by it"
        yield Finding("note", "the clock of this host is not synchronised", cure)
    etcd = sight.service.Etcd
    if etcd is not None and abs(etcd.AheadS) >= _APART_S:
        where = "behind" if etcd.AheadS > 0 else "ahead of"
        what = f"the clock of this host is {abs(etcd.AheadS)} s {where} etcd's"
        cure = "one of them is wrong: systemd-timesyncd or chrony on all hosts; certificates and logs go by them"
        yield Finding("warning", what, cure)


def _switch(link: str, version: int = 4, name: str = "forwarding") -> str:
    # sysctl(8): a dot in the name of a link is written as a slash.
    return f"net.ipv{version}.conf.{link.replace('.', '/')}.{name}"


def _addresses(sight: Sight) -> Iterator[Finding]:
    for network in sight.networks:
        for subnet in network.Subnets:
            pool = ip_network(subnet.Pool)
            for destination, link in sight.host.routes:
                other = ip_network(destination)
                # A wider route is beaten by that of the network, as it should.
                is_other = link != network.Bridge and other.version == pool.version and other.prefixlen > 0
                if is_other and other.prefixlen >= pool.prefixlen and other.subnet_of(pool):  # type: ignore[arg-type]
                    what = f"the host has a route to {destination} by {link}, inside {_name(network, sight)} ({pool})"
                    cure = "one of the two needs other addresses: containers with such an address are not reached"
                    yield Finding("warning", what, cure)


def _published(sight: Sight) -> Iterator[Finding]:
    for network in sight.networks:
        for endpoint in network.Endpoints:
            open_to_all = [port for port in endpoint.Ports if ip_network(port.Address).network_address.is_unspecified]
            spans = {
                f"{span(port.HostPort, port.HostPortEnd)}/{port.Protocol}" for port in open_to_all if not port.From
            }
            if spans:
                who = sight.after.container_name(endpoint.ID) if sight.after else endpoint.ID[:12]
                what = f"anybody who reaches this host reaches {who} at {', '.join(sorted(spans))}"
                yield Finding(
                    "note", what, "meant otherwise: -o publish_from=lan on the network, or -p ADDRESS:PORT:PORT"
                )


def _name(network: NetworkInfo, sight: Sight) -> str:
    return sight.after.network_name(network.ID) if sight.after else network.ID[:12]
