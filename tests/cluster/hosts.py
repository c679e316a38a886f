"""Hosts of a real etcd in one process: real verbs, records and threads over a fake kernel, asked as dockerd asks."""

import json
import secrets
import time
from ipaddress import ip_address, ip_interface

from netplugin import driver as pynet
from netplugin.cluster.directory import Directory
from netplugin.cluster.etcd import Access, Etcd, Server
from netplugin.cluster.pools import SharedPools
from netplugin.ipam.driver import IpamDriver
from netplugin.kinds import ADDRESSES, ENDPOINTS, POOLS, REMOTE_ENDPOINTS
from netplugin.machine import Way
from netplugin.overlay.tunnel import Tunnel, TunnelPeer
from netplugin.resources import (
    Bridge,
    FdbEntry,
    HostPorts,
    Neighbour,
    NftPorts,
    NftRuleset,
    OverlayGuard,
    OverlayMember,
    OverlayProbes,
    Redirect,
    Ruleset,
    Shaper,
    SourceGuard,
    Veth,
    Vxlan,
)
from pluginkit.errors import Unavailable
from tests.crash.plugins import SWITCHES, NetworkWorld
from tests.volume import machine

GATEWAY = "com.docker.network.gateway"
NAME = "com.docker.network.endpoint.name"
TYPES = (
    *(
        Bridge,
        Veth,
        OverlayGuard,
        OverlayMember,
        Tunnel,
        TunnelPeer,
        Vxlan,
        OverlayProbes,
        FdbEntry,
        Neighbour,
        *SWITCHES,
    ),
    *(Shaper, Redirect, SourceGuard, HostPorts, Ruleset, NftRuleset, NftPorts),
)


class Line(Etcd):
    """The way to etcd, which can be cut, or carry requests without their answers."""

    def __init__(self, port):
        super().__init__(Access((Server("127.0.0.1", port),)))
        self.is_cut = self.is_deaf = False
        # What happens once, after everything was read and before it is watched.
        self.meanwhile = None
        self._watches = []

    def cut(self):
        self.is_cut = True
        for watch in self._watches:
            watch.cancel()

    def heal(self):
        self.is_cut = self.is_deaf = False

    def watch(self, prefix, after):
        if self.meanwhile is not None:
            happens, self.meanwhile = self.meanwhile, None
            happens()
        self._watches = [super().watch(prefix, after)]
        return self._watches[0]

    def _ask(self, path, body):
        answer = super()._ask(path, body)
        if self.is_deaf:
            raise Unavailable("cannot read the answer of etcd: it was lost")
        return answer

    def _open(self, path, body, *, patient):
        if self.is_cut:
            raise Unavailable("cannot ask etcd: the line is cut")
        return super()._open(path, body, patient=patient)


class Refused(Exception):
    """The answer of a verb was an error, with this text."""


class Host(NetworkWorld):
    """One host: what dockerd would keep of it is in `made` and `containers`."""

    def __init__(self, root, port, number):
        self.number, self.vtep, self._port = number, ip_address(f"10.90.0.{10 + number}"), port
        self.made, self.containers = {}, {}
        super().__init__(root)

    def assemble(self):
        kernels = dict(self.kernel.kernels(TYPES))
        for switch in SWITCHES:
            kernels[switch] = machine.Unlisted(kernels[switch])
        self.driver = pynet.NetworkDriver(self.store, kernels, self.backend, probe=self, flows=self, announcer=self)
        self.ipam = IpamDriver(self.store, host=self)
        self.take_part()

    def take_part(self):
        """It comes into the cluster, and answers."""
        self.line = Line(self._port)
        directory = Directory(self.line, f"h{self.number}", f"host-{self.number}", self.vtep, 1500, self.way_to)
        self.agent, self.names = self.driver.take_part(directory, self.ipam.share(SharedPools(directory)))
        self.serve((*self.driver.methods(), *self.ipam.methods()))
        self.reconcile()
        self.agent.start()

    def way_to(self, address):
        return Way(self.vtep, 1500, address == self.vtep)

    def kill(self):
        """The process is gone; containers and kernel go on."""
        self.part()
        self.store.close()

    def part(self):
        """Nothing goes from here to the cluster any more, nor from there to here."""
        self.line.cut()
        self.agent.close()

    def restart(self):
        """Killed and started again."""
        self.kill()
        self._start()

    def close(self):
        self.kill()
        super().close()

    # --- as dockerd ---

    def verb(self, method, **body):
        answer = self.client.post(f"/{method}", data=json.dumps(body))
        content = json.loads(answer.data)
        assert "internal error" not in content.get("Err", ""), content
        if answer.status_code != 200:
            raise Refused(content["Err"])
        return content

    def pool_options(self, name):
        """What `--ipam-opt` says for the network."""
        return {"name": name}

    def create(self, name, subnet="", gateway="", v6=False, aux=(), **options):
        """`docker network create` of an overlay with addresses of the cluster; return its subnet and gateway."""
        asked = {"AddressSpace": "pylocal", "Pool": subnet, "Options": self.pool_options(name), "V6": v6}
        pool = self.verb("IpamDriver.RequestPool", **asked)
        taken = []

        def ask(address, **options):
            got = self.verb(
                "IpamDriver.RequestAddress", PoolID=pool["PoolID"], Address=address, Options=options or None
            )
            taken.append(got["Address"].partition("/")[0])
            return got["Address"]

        try:
            given = ask(gateway, RequestAddressType=GATEWAY)
            for address in aux:
                ask(address)
            network_id = secrets.token_hex(32)
            data = [{"AddressSpace": "pylocal", "Pool": pool["Pool"], "Gateway": given}]
            self.verb(
                "NetworkDriver.CreateNetwork",
                NetworkID=network_id,
                Options={"com.docker.network.generic": {"type": "overlay", "name": name, **options}},
                IPv4Data=[] if v6 else data,
                IPv6Data=data if v6 else [],
            )
        except Refused:
            self._give_back(pool["PoolID"], taken)
            raise
        self.made[name] = (network_id, pool["PoolID"], taken)
        return pool["Pool"], given

    def remove(self, name):
        """`docker network rm`."""
        network_id, pool_id, taken = self.made.pop(name)
        self.verb("NetworkDriver.DeleteNetwork", NetworkID=network_id)
        self._give_back(pool_id, taken)

    def run(self, container, network="blue", address="", name=""):
        """`docker run`; return its address."""
        network_id, pool_id, _ = self.made[network]
        options = {NAME: name or container}
        given = self.verb("IpamDriver.RequestAddress", PoolID=pool_id, Address=address, Options=options)["Address"]
        endpoint_id = secrets.token_hex(32)
        family = "AddressIPv6" if ":" in given else "Address"
        try:
            self.verb(
                "NetworkDriver.CreateEndpoint",
                NetworkID=network_id,
                EndpointID=endpoint_id,
                Interface={family: given},
                Options={},
            )
        except Refused:
            self.verb("IpamDriver.ReleaseAddress", PoolID=pool_id, Address=given.partition("/")[0])
            raise
        self.containers[container] = (network, endpoint_id, str(ip_interface(given).ip))
        return self.containers[container][2]

    def stop(self, container):
        """`docker rm -f`."""
        network, endpoint_id, address = self.containers.pop(container)
        network_id, pool_id, _ = self.made[network]
        self.verb("NetworkDriver.DeleteEndpoint", NetworkID=network_id, EndpointID=endpoint_id)
        self.verb("IpamDriver.ReleaseAddress", PoolID=pool_id, Address=address)

    def _give_back(self, pool_id, taken):
        for address in taken:
            self.verb("IpamDriver.ReleaseAddress", PoolID=pool_id, Address=address)
        self.verb("IpamDriver.ReleasePool", PoolID=pool_id)

    # --- what it knows ---

    def blocks(self, name="blue"):
        """Its blocks of a network."""
        pools = [row.current for row in self.store.rows(POOLS) if row.current is not None]
        return {block for pool in pools if pool.name == name for block in pool.blocks}

    def held(self, role="endpoint"):
        """The addresses that are held in a role."""
        records = [row.current for row in self.store.rows(ADDRESSES) if row.current is not None and not row.pending]
        return {record.address for record in records if record.held and record.role == role}

    def own(self):
        """The addresses of its endpoints."""
        rows = [row.current for row in self.store.rows(ENDPOINTS) if row.current is not None]
        return {str(address.ip) for row in rows for address in (row.address4, row.address6) if address is not None}

    def others(self):
        """The addresses of others' endpoints, as it has been told, with where they are."""
        rows = [row.current for row in self.store.rows(REMOTE_ENDPOINTS) if row.current is not None]
        return {
            (str(address.ip), row.vtep)
            for row in rows
            for address in (row.address4, row.address6)
            if address is not None
        }


def wait_until(ask, patience_s=10.0):
    """`ask` returns something true."""
    deadline = time.monotonic() + patience_s
    while not (found := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found
