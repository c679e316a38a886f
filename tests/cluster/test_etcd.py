"""The client against a real etcd."""

import subprocess
import threading
import time

import pytest

from netplugin.cluster.access import ClusterSettings, parse_access, parse_own_vtep
from netplugin.cluster.etcd import Access, Compacted, Delete, Etcd, Is, Put, Server
from pluginkit.errors import BadRequest, Unavailable
from tests.cluster.server import Server as RealServer


def test_a_listing_is_of_one_moment_however_long_it_is(etcd):
    keys = [f"/t/{number:05d}" for number in range(2500)]
    for start in range(0, len(keys), 100):
        assert etcd.transact([], [Put(key, b"v") for key in keys[start : start + 100]])
    etcd.transact([], [Put("/u/other", b"v")])
    listing = etcd.list("/t/")
    assert [entry.key for entry in listing.entries] == keys
    assert listing.revision == etcd.get("/u/other").revision


def test_changes_are_made_if_all_conditions_hold_and_else_none(etcd):
    first = etcd.transact([Is("/t/a", 0)], [Put("/t/a", b"1")])
    assert etcd.get("/t/a").revision == first
    assert etcd.transact([Is("/t/a", 0)], [Put("/t/a", b"2")]) == 0
    assert etcd.transact([Is("/t/a", first), Is("/t/b", 1)], [Put("/t/a", b"2"), Put("/t/b", b"2")]) == 0
    assert etcd.get("/t/a").value == b"1"
    assert etcd.transact([Is("/t/a", first)], [Put("/t/a", b"2")])
    assert etcd.transact([Is("/t/", 0, every=True)], [Put("/t/c", b"1")]) == 0
    assert etcd.transact([], [Delete("/t/a")])
    assert etcd.transact([Is("/t/", 0, every=True)], [Put("/t/c", b"1")])
    assert (etcd.get("/t/a").revision, etcd.get("/t/a").value) == (0, b"")


def test_a_watch_tells_what_happened_since_and_what_happens(etcd):
    start = etcd.transact([], [Put("/t/a", b"1")])
    etcd.transact([], [Put("/t/b", b"1"), Delete("/t/a")])
    watch = etcd.watch("/t/", start)
    changes = iter(watch)
    assert {(entry.key, entry.value, bool(entry.revision)) for entry in next(changes).entries} == {
        ("/t/a", b"", False),
        ("/t/b", b"1", True),
    }
    threading.Timer(0.2, lambda: etcd.transact([], [Put("/t/c", b"2")])).start()
    assert [entry.key for entry in next(changes).entries] == ["/t/c"]
    threading.Timer(0.2, watch.cancel).start()
    assert list(changes) == []


def test_a_history_that_is_forgotten_is_told(etcd, server):
    start = etcd.transact([], [Put("/t/a", b"1")])
    etcd.transact([], [Put("/t/a", b"2")])
    etcd.transact([], [Put("/t/a", b"3")])
    server.ctl("compact", str(server.revision()))
    with pytest.raises(Compacted):
        list(etcd.watch("/t/", start))


def test_a_watch_ends_when_its_member_dies(etcd, server):
    watch = etcd.watch("/t/", etcd.list("/t/").revision)
    threading.Timer(0.2, server.stop).start()
    assert list(watch) == []


def test_what_hangs_on_a_lease_ends_with_it(etcd):
    lease = etcd.grant(1)
    etcd.transact([], [Put("/t/alive", b"1", lease)])
    assert etcd.keep(lease)
    deadline = time.monotonic() + 10
    while etcd.get("/t/alive").revision:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not etcd.keep(lease)


def test_another_member_is_asked_when_one_does_not_answer(etcd, server):
    both = Etcd(Access((Server("127.0.0.1", 1), Server("127.0.0.1", server.port))))
    assert both.transact([], [Put("/t/a", b"1")])
    watch = both.watch("/t/", 1)
    assert both.is_nearest(watch)
    watch.cancel()
    assert list(watch) == []


def test_nobody_waits_for_ever(etcd, server):
    server.stop()
    with pytest.raises(Unavailable, match=r"cannot ask etcd: 127.0.0.1: .*refused.*; is it running"):
        etcd.get("/t/a")
    # One that takes connections and says nothing.
    silent = subprocess.Popen(
        ["python3", "-c", "import socket,time; s=socket.create_server(('127.0.0.1',2379)); print(); time.sleep(60)"],
        stdout=subprocess.PIPE,
    )
    try:
        silent.stdout.readline()
        began = time.monotonic()
        with pytest.raises(Unavailable, match="timed out"):
            etcd.get("/t/a")
        assert time.monotonic() - began < 6
    finally:
        silent.kill()
        silent.communicate()


@pytest.fixture
def guarded(netns, tmp_path):
    """An etcd that speaks TLS and knows a user."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    make = ["openssl", "req", "-x509", *kind, "-days", "1"]
    name = ["-subj", "/CN=etcd", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*make, "-keyout", key, "-out", certificate, *name], check=True, capture_output=True)
    shown = ("--cert-file", str(certificate), "--key-file", str(key))
    server = RealServer(tmp_path, 2379, *shown, authority=certificate)
    for words in (("user", "add", "root:s3:cret"), ("user", "grant-role", "root", "root"), ("auth", "enable")):
        server.ctl(*words)
    yield certificate
    server.stop()


def test_tls_and_a_password(guarded):
    etcd = Etcd(parse_access(ClusterSettings("etcds://root:s3%3Acret@127.0.0.1", ca=guarded)))
    assert etcd.transact([], [Put("/t/a", b"1")])
    watch = etcd.watch("/t/", 1)
    threading.Timer(0.5, watch.cancel).start()
    assert [entry.key for change in watch for entry in change.entries] == ["/t/a"]
    with pytest.raises(Unavailable, match="authentication failed"):
        Etcd(parse_access(ClusterSettings("etcds://root:wrong@127.0.0.1", ca=guarded))).get("/t/a")
    with pytest.raises(Unavailable, match="certificate verify failed"):
        Etcd(parse_access(ClusterSettings("etcds://root:s3%3Acret@127.0.0.1"))).get("/t/a")
    with pytest.raises(Unavailable, match="user name is empty"):
        Etcd(parse_access(ClusterSettings("etcds://127.0.0.1", ca=guarded))).get("/t/a")


def test_a_token_that_has_ended_is_renewed(guarded):
    etcd = Etcd(parse_access(ClusterSettings("etcds://root:s3%3Acret@127.0.0.1", ca=guarded)))
    etcd.transact([], [Put("/t/a", b"1")])
    etcd._token = "ended.1"
    assert etcd.get("/t/a").value == b"1"


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("etcd://h1", [Server("h1", 2379)]),
        ("etcd://h1:1,h2:2/", [Server("h1", 1), Server("h2", 2)]),
        ("etcd://[fd00::1]:1,[fd00::2]", [Server("fd00::1", 1), Server("fd00::2", 2379)]),
    ],
)
def test_where_a_cluster_is(url, servers):
    assert list(parse_access(ClusterSettings(url)).servers) == servers


@pytest.mark.parametrize("url", ["etcd://", "http://h1", "etcd://h1:x", "etcd://u:secret@h1:x", "etcd://fd00::1", ""])
def test_what_is_no_cluster_is_refused_without_telling_passwords(url):
    with pytest.raises(BadRequest, match="cannot use the cluster") as told:
        parse_access(ClusterSettings(url))
    assert "secret" not in str(told.value)


def test_other_settings_that_cannot_be_used(tmp_path):
    with pytest.raises(BadRequest, match="cannot use the certificates"):
        parse_access(ClusterSettings("etcds://h1", ca=tmp_path / "none.pem"))
    with pytest.raises(BadRequest, match="cannot use the VTEP 'h1'"):
        parse_own_vtep(ClusterSettings("etcd://h1", vtep="h1"))
