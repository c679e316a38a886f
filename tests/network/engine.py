"""Plays dockerd: the requests that it sends, to an app in this process or to a socket."""

import json

from tests.network.samples import ENDPOINT_ID, NETWORK_ID


class Engine:
    """Speaks for one network and endpoints in it. post(path, body) returns (status, answer)."""

    def __init__(self, post):
        self._post = post

    def call(self, method, **body):
        return self._post(f"/NetworkDriver.{method}", json.dumps(body) + "\n")

    def ok(self, method, **body):
        status, answer = self.call(method, **body)
        assert status == 200, answer
        return answer

    def error(self, method, **body):
        status, answer = self.call(method, **body)
        assert status in (400, 500), (status, answer)
        return answer["Err"]

    def create_network(self, network_id=NETWORK_ID, *, dual=False, internal=False, subnet="10.9.0", **generic):
        data = {"AddressSpace": "Local", "Pool": f"{subnet}.0/24", "Gateway": f"{subnet}.1/24"}
        data6 = {"AddressSpace": "Local", "Pool": "fd09::/64", "Gateway": "fd09::1/64"}
        options = {"com.docker.network.generic": generic}
        if internal:
            options["com.docker.network.internal"] = True
        return self.call(
            "CreateNetwork", NetworkID=network_id, Options=options, IPv4Data=[data], IPv6Data=[data6] if dual else []
        )

    def create_endpoint(self, endpoint_id=ENDPOINT_ID, address="10.9.0.2/24", address6="", mac="", network=NETWORK_ID):
        interface = {"Address": address, "AddressIPv6": address6, "MacAddress": mac}
        return self.ok("CreateEndpoint", **ids(endpoint_id, network), Interface=interface, Options={})

    def join(self, endpoint_id=ENDPOINT_ID, sandbox="/var/run/docker/netns/0123456789ab"):
        return self.ok("Join", **ids(endpoint_id), SandboxKey=sandbox, Options={})

    def publish(self, *ports, endpoint_id=ENDPOINT_ID):
        return self.call(
            "ProgramExternalConnectivity", **ids(endpoint_id), Options={"com.docker.network.portmap": list(ports)}
        )

    def stop(self, endpoint_id=ENDPOINT_ID):
        for method in ("RevokeExternalConnectivity", "Leave", "DeleteEndpoint"):
            self.ok(method, **ids(endpoint_id))

    def run(self, *ports, endpoint_id=ENDPOINT_ID, address="10.9.0.2/24"):
        self.create_endpoint(endpoint_id, address)
        self.join(endpoint_id)
        status, answer = self.publish(*ports, endpoint_id=endpoint_id)
        assert status == 200, answer


def ids(endpoint_id=ENDPOINT_ID, network_id=NETWORK_ID):
    return {"NetworkID": network_id, "EndpointID": endpoint_id}


def port(container, host=0, host_ip="", proto=6, end=0):
    return {"Proto": proto, "Port": container, "HostIP": host_ip, "HostPort": host, "HostPortEnd": end or host}
