"""Hosts of an encrypted network tell each other their keys by way of etcd, and send nothing to who tells none."""

import json
import subprocess
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from netplugin.cluster import keys
from netplugin.cluster.directory import Directory
from netplugin.cluster.etcd import Put
from netplugin.machine import Way
from netplugin.overlay.secret import HostKey
from netplugin.overlay.tunnel import LINK, address_inside
from pluginkit.errors import BadRequest, Conflict
from pluginkit.wire import decode
from tests.cluster.test_directory import BLUE, VTEPS, endpoint
from tests.cluster.test_plugin import start, wait_for, wire
from tests.network.samples import NETWORK_ID
from tests.network.sandboxes import LIBC
from tests.network.tunnel_hosts import carriers
from tests.volume.conftest import mounts_apart

__all__ = ["start", "wire"]

HIDDEN = replace(BLUE, options=replace(BLUE.options, encrypted=True))
MEMBER = "/pynet/v1/at/blue/host/"


def host(etcd, name, tmp_path, room=1500, narrow=1500):
    own = ip_address(VTEPS[name])
    key = HostKey(tmp_path / f"{name}.key")
    directory = Directory(
        etcd, name, f"host-{name}", own, room, lambda to: Way(own, narrow, to == own), lambda: key.public
    )
    directory.register()
    return directory


def test_hosts_tell_their_keys_and_places(etcd, server, tmp_path):
    one, two = host(etcd, "one", tmp_path), host(etcd, "two", tmp_path)
    first, second = one.join(HIDDEN), two.join(replace(HIDDEN, id="f" * 64))
    assert (first.overlay.vtep, second.overlay.vtep) == (address_inside("blue", "one"), address_inside("blue", "two"))
    assert (first.mtu, second.mtu) == (1370, 1370)
    value = decode(etcd.get(f"{MEMBER}two").value, keys.MemberValue)
    public = HostKey(tmp_path / "two.key").public
    assert value == keys.MemberValue(second.overlay.vtep, "f" * 64, public, "10.90.0.12:14790")
    one.claim(first, endpoint(5))
    told = decode(etcd.get(keys.endpoint_key("blue", endpoint(5).id)).value, keys.EndpointValue)
    assert told.vtep == first.overlay.vtep
    everything = server.ctl("get", "--prefix", "/pynet/")
    assert public in everything
    assert HostKey(tmp_path / "two.key").private not in everything


def test_a_network_is_encrypted_on_all_hosts_or_on_none(etcd, tmp_path):
    one, two = host(etcd, "one", tmp_path), host(etcd, "two", tmp_path)
    one.join(HIDDEN)
    with pytest.raises(Conflict, match="the cluster has it encrypted; add -o encrypted=true"):
        two.join(BLUE)
    one.leave("blue")
    one.join(BLUE)
    with pytest.raises(Conflict, match="the cluster has it not encrypted; leave -o encrypted out"):
        two.join(HIDDEN)


def test_what_hosts_of_before_wrote_is_read(etcd, tmp_path):
    one = host(etcd, "one", tmp_path)
    value = b'{"vni":7,"port":14789,"mtu":1450,"subnets":[["10.9.0.0/24","10.9.0.1"],["fd09::/64","fd09::1"]]}'
    etcd.transact([], [Put(keys.network_key("blue"), value)])
    assert one.join(BLUE).mtu == 1450
    assert keys.parse_value(keys.Place("blue", "host", "x"), b'{"vtep":"10.0.0.1","network":"f"}').public_key == ""


@pytest.mark.parametrize(
    ("room", "narrow", "words"),
    [(1330, 1500, "have 1270 bytes on the way to its hosts, and IPv6 needs 1280"), (1500, 1400, "has room for 1270")],
)
def test_a_way_that_is_too_narrow_is_refused(etcd, tmp_path, room, narrow, words):
    host(etcd, "one", tmp_path).join(HIDDEN)
    with pytest.raises(BadRequest, match=words):
        host(etcd, "two", tmp_path, room, narrow).join(HIDDEN)


@pytest.fixture
def apart(wire, tmp_path):
    """A /run of the test's own: wireguard-go has its socket there, under the link's name."""
    with mounts_apart(tmp_path):
        assert LIBC.mount(b"run", b"/run", b"tmpfs", 0, None) == 0
        yield
        # Who carries the link goes on without pynet, as long as it is there.
        subprocess.run(["ip", "link", "del", LINK], check=False, capture_output=True)
        here = Path("/proc/thread-self/ns/net").stat().st_ino
        wait_for(lambda: carriers(here), [])


@pytest.fixture
def plugin(apart, start):
    plugin = start()
    wait_for(lambda: plugin.engine.create_network(dual=True, type="overlay", name="blue", encrypted="true")[0], 200)
    return plugin


def peers():
    shown = subprocess.run(["wg", "show", LINK, "allowed-ips"], capture_output=True, text=True, check=False).stdout
    return dict(line.split("\t") for line in shown.splitlines())


def remote_entries():
    shown = subprocess.run(["bridge", "fdb", "show", "dev", f"pnx{NETWORK_ID[:8]}"], capture_output=True, text=True)
    return sorted(line.split(" dst ")[1].split()[0] for line in shown.stdout.splitlines() if " dst " in line)


def test_who_tells_a_key_is_let_in_and_who_does_not_gets_nothing(plugin, etcd, tmp_path, state_dir):
    two = host(etcd, "two", tmp_path)
    inside = address_inside("blue", "two")
    two.claim(two.join(replace(HIDDEN, id="f" * 64)), endpoint(5))
    wait_for(peers, {HostKey(tmp_path / "two.key").public: f"{inside}/128"})
    wait_for(remote_entries, [inside, inside])
    # As a host of an older version would say it, which does not know that the network is encrypted.
    clear = {"vtep": "10.90.0.13", "network": "e" * 64}
    spoken = {"host": "three", "mac": endpoint(6).mac, "address4": "10.9.0.6/24", "address6": None, **clear}
    etcd.transact([], [Put(f"{MEMBER}three", json.dumps(clear).encode())])
    etcd.transact([], [Put(keys.endpoint_key("blue", endpoint(6).id), json.dumps(spoken).encode())])
    # Nor one that says it had another one's place.
    other = {**clear, "vtep": inside, "public_key": HostKey(tmp_path / "x.key").public, "endpoint": "10.90.0.13:14790"}
    etcd.transact([], [Put(f"{MEMBER}four", json.dumps(other).encode())])
    two.claim(joined(two), endpoint(7))
    wait_for(lambda: len(remote_entries()), 3)
    assert (list(peers().values()), set(remote_entries())) == ([f"{inside}/128"], {inside})
    plugin.reconcile()
    assert (list(peers().values()), set(remote_entries())) == ([f"{inside}/128"], {inside})
    assert (state_dir / "wireguard.key").stat().st_mode & 0o777 == 0o600
    plugin.engine.ok("DeleteNetwork", NetworkID=NETWORK_ID)
    assert subprocess.run(["ip", "link", "show", LINK], check=False, capture_output=True).returncode != 0


def joined(directory):
    return directory.join(replace(HIDDEN, id="f" * 64))


def test_a_host_that_has_lost_its_key_tells_its_new_one(plugin, etcd, state_dir, start):
    [name] = [entry.key for entry in etcd.list(MEMBER).entries]

    def told():
        return decode(etcd.get(name).value, keys.MemberValue).public_key

    former = HostKey(state_dir / "wireguard.key").public
    assert told() == former
    plugin.close()
    (state_dir / "wireguard.key").unlink()
    with closing(start()):
        now = HostKey(state_dir / "wireguard.key").public
        assert now != former
        wait_for(told, now)
        shown = subprocess.run(["wg", "show", LINK, "public-key"], capture_output=True, text=True, check=True).stdout
        assert shown.strip() == now


def test_what_is_missing_on_the_link_is_seen_by_verify_and_put_right(plugin, etcd, tmp_path, server):
    from typer.testing import CliRunner

    from netplugin.cluster.cli import app

    two = host(etcd, "two", tmp_path)
    two.join(replace(HIDDEN, id="f" * 64))
    public = HostKey(tmp_path / "two.key").public
    wait_for(lambda: list(peers()), [public])

    def verify():
        return CliRunner().invoke(app, ["verify", "--cluster", f"etcd://127.0.0.1:{server.port}"])

    assert verify().exit_code == 0, verify().output
    subprocess.run(["wg", "set", LINK, "peer", public, "remove"], check=True)
    found = verify()
    assert (found.exit_code, found.output.startswith(f"{LINK}: missing: peer {public} at 10.90.0.12:14790")) == (
        1,
        True,
    )
    plugin.reconcile()
    assert verify().exit_code == 0
