"""Plays dockerd towards the IPAM driver of one run of pynet, on real records."""

import json
from dataclasses import replace
from ipaddress import IPv4Network, ip_interface, ip_network

from netplugin.ipam.driver import IpamDriver
from netplugin.ipam.pools import PoolConfig, parse_pool_range
from netplugin.kinds import ALL, ENDPOINTS, MIGRATIONS, NETWORKS
from netplugin.records import Subnet
from pluginkit.metrics import Metrics
from pluginkit.server import create_app
from pluginkit.store import Store
from tests.network import samples

GATEWAY = {"RequestAddressType": "com.docker.network.gateway"}
SMALL = PoolConfig((parse_pool_range("base=10.50.0.0/22,size=24"),))


class Using:
    """A host that uses certain networks."""

    def __init__(self, *networks):
        self._networks = frozenset(map(ip_network, networks))

    def networks(self):
        return self._networks


class Ipam:
    """The requests of dockerd, each with what is usual in it."""

    def __init__(self, state_dir, host=None, config=None):
        self.store = Store(state_dir / "pynet.db", ALL, MIGRATIONS)
        arguments = () if config is None else (config,)
        self.driver = IpamDriver(self.store, host or Using(), *arguments)
        self.connection = None
        self._app = create_app("pynet", ["IpamDriver"], self.driver.methods(), Metrics("pynet"))

    def close(self):
        self.store.close()

    def call(self, method, **body):
        environ = {"gunicorn.socket": self.connection}
        data = json.dumps(body) if body else b""
        answer = self._app.test_client().post(f"/IpamDriver.{method}", data=data, environ_overrides=environ)
        return answer.status_code, answer.get_json()

    def ok(self, method, **body):
        status, answer = self.call(method, **body)
        assert status == 200, answer
        return answer

    def error(self, method, **body):
        status, answer = self.call(method, **body)
        assert status in (400, 500), answer
        assert answer["Error"] == answer["Err"]
        return answer["Err"]

    def pool(self, pool="", sub_pool="", *, space="pylocal", v6=False, **options):
        body = {"AddressSpace": space, "Pool": pool, "SubPool": sub_pool, "Options": options, "V6": v6}
        return self.ok("RequestPool", **body)

    def pool_error(self, pool="", sub_pool="", *, space="pylocal", v6=False, **options):
        body = {"AddressSpace": space, "Pool": pool, "SubPool": sub_pool, "Options": options, "V6": v6}
        return self.error("RequestPool", **body)

    def address(self, pool_id, address="", options=None):
        return self.ok("RequestAddress", PoolID=pool_id, Address=address, Options=options)["Address"]

    def address_error(self, pool_id, address="", options=None):
        return self.error("RequestAddress", PoolID=pool_id, Address=address, Options=options)

    def release(self, pool_id, address):
        assert self.ok("ReleaseAddress", PoolID=pool_id, Address=address.partition("/")[0]) == {}

    def release_pool(self, pool_id):
        assert self.ok("ReleasePool", PoolID=pool_id) == {}

    def network(self, subnet, *addresses):
        """A network of pynet exists, with an endpoint for each address."""
        network = samples.network()
        subnets = (Subnet(IPv4Network(subnet), None, "pylocal"),)
        self._put(NETWORKS, network.id, replace(network, subnets4=subnets), "")
        for number, address in enumerate(addresses):
            endpoint = replace(samples.endpoint(), id=f"{number:064x}", address4=ip_interface(address))
            self._put(ENDPOINTS, endpoint.id, endpoint, network.id)

    def _put(self, kind, record_id, record, parent):
        self.store.intend(kind, record_id, parent, record)
        self.store.commit(kind, record_id)


def named(name):
    return {"com.docker.network.endpoint.name": name}


def host(interface):
    """Return the address of an answer without its prefix length."""
    return interface.partition("/")[0]
