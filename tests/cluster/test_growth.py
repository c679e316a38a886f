"""A network with thousands of endpoints elsewhere: how long it takes to read them, and to hear of one more.

GROWTH_ENDPOINTS says how many; 5 000 and 10 000 are what `make growth` tries.
"""

import os
import resource
import statistics
import subprocess
import threading
import time
from contextlib import contextmanager
from ipaddress import IPv4Interface, IPv6Interface, ip_address

from netplugin.cluster import keys, operate
from netplugin.cluster.etcd import Put
from netplugin.kernel.overlay.fdb import VxlanFdb
from netplugin.kernel.overlay.neighbours import Neighbours
from netplugin.kernel.overlay.vxlan import VxlanDevices
from pluginkit import wire as codec
from tests.cluster.test_plugin import BRIDGE, OTHER, start, wait_for, wire
from tests.network.samples import NETWORK_ID

__all__ = ["start", "wire"]

ENDPOINTS = int(os.environ.get("GROWTH_ENDPOINTS", "1000"))
PATIENCE_S = 300
# As many as one transaction of etcd may change.
AT_ONCE = 100


def said(number):
    """What another host says of its endpoint of that number."""
    mac = "02:42:" + number.to_bytes(4, "big").hex(":")
    address4, address6 = ip_address("10.9.0.0") + number, ip_address("fd09::") + number
    value = keys.EndpointValue("other", OTHER, mac, IPv4Interface((address4, 16)), IPv6Interface((address6, 64)))
    return Put(keys.endpoint_key("blue", f"{number:064x}"), codec.encode(value))


@contextmanager
def watched(plugin):
    """Inside the block others' changes of the kernel are looked for, as by the service; the list has what was found."""
    over, found = threading.Event(), []

    def watch():
        while not over.wait(0.02):
            if what := plugin._monitor.look():
                found.append(what)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def differences(plugin, etcd):
    netlink = plugin._netlink
    view = operate.KernelView(
        tuple(VxlanDevices(netlink).owned()),
        frozenset(VxlanFdb(netlink).owned()),
        frozenset(Neighbours(netlink).owned()),
    )
    return operate.compare(etcd, view).differences


def is_up_to_date(plugin):
    agent = plugin._agent
    return agent._is_connected() and not agent._again


def seconds_until(ask):
    began = time.monotonic()
    wait_for(lambda: bool(ask()), True, PATIENCE_S)
    return time.monotonic() - began


def test_thousands_are_read_and_one_more_is_known_at_once(start, server, etcd):
    plugin = start()
    data = {"AddressSpace": "Local", "Pool": "10.9.0.0/16", "Gateway": "10.9.0.1/16"}
    data6 = {"AddressSpace": "Local", "Pool": "fd09::/64", "Gateway": "fd09::1/64"}
    options = {"com.docker.network.generic": {"type": "overlay", "name": "blue"}}
    request = {"NetworkID": NETWORK_ID, "Options": options, "IPv4Data": [data], "IPv6Data": [data6]}
    wait_for(lambda: plugin.engine.call("CreateNetwork", **request)[0], 200)
    plugin.close()
    for first in range(5, ENDPOINTS + 5, AT_ONCE):
        etcd.transact([], [said(number) for number in range(first, min(first + AT_ONCE, ENDPOINTS + 5))])
    began = time.monotonic()
    plugin = start()
    with watched(plugin) as found:
        wait_for(lambda: is_up_to_date(plugin), True, PATIENCE_S)
        first_read_s = time.monotonic() - began
        assert differences(plugin, etcd) == ()

        server.ctl("compact", str(server.revision()))
        plugin._agent.look_again()
        again_s = seconds_until(lambda: is_up_to_date(plugin))

        took = []
        for number in range(60000, 60100):
            began = time.monotonic()
            etcd.transact([], [said(number)])
            words = ["ip", "neigh", "get", str(ip_address("10.9.0.0") + number), "dev", BRIDGE]
            wait_for(lambda w=words: subprocess.run(w, capture_output=True, check=False).returncode, 0)
            took.append(time.monotonic() - began)

        began = time.monotonic()
        plugin.reconcile()
        check_s = time.monotonic() - began
        assert differences(plugin, etcd) == ()
    assert found == []
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{ENDPOINTS} endpoints: first read in {first_read_s:.1f} s, again in {again_s:.1f} s, a check in {check_s:.1f}"
        f" s; one more is known after {statistics.median(took) * 1000:.0f} ms (median of {len(took)}), {mib:.0f} MiB"
    )
    assert statistics.median(took) < 0.3
