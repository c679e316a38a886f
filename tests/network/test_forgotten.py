"""Which networks are deleted, by what engines say that they know and by what was lost."""

import json
import socketserver
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler

import pytest

from netplugin.engine.forgotten import Forgotten
from netplugin.kinds import ENDPOINTS, LOST, NETWORKS, SIGHTINGS, open_store
from pluginkit.errors import Unavailable
from tests.network.samples import endpoint, network


class EngineApi(socketserver.ThreadingUnixStreamServer):
    """Says what it knows when it is asked; `after` is called when it has been asked for networks."""

    daemon_threads = True
    id = "engine 1"
    known: tuple[str, ...] = ()
    status = 200

    @staticmethod
    def after():
        """Nothing happens."""


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        content = {"/info": {"ID": self.server.id}, "/networks": [{"Id": one} for one in self.server.known]}
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(json.dumps(content[self.path]).encode())
        if self.path == "/networks":
            self.server.after()

    def log_message(self, *_):
        """Nobody reads it; and a Unix socket's client has no address to print."""


@pytest.fixture
def engine(tmp_path):
    with EngineApi(str(tmp_path / "engine.sock"), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class Plugin:
    def __init__(self, state_dir, engines):
        self.store = open_store(state_dir)
        self.forgotten = Forgotten(self.store, engines, self.delete, pause_s=0)
        self.deleted = []

    def have(self, *ids):
        for one in ids:
            self.store.intend(NETWORKS, one, "", replace(network(), id=one))
            self.store.commit(NETWORKS, one)

    def delete(self, network_id):
        self.deleted.append(network_id)
        self.store.intend(NETWORKS, network_id, "", None)
        self.store.commit(NETWORKS, network_id)

    def collected(self):
        self.deleted.clear()
        self.forgotten.collect()
        return sorted(self.deleted)


@pytest.fixture
def plugin(tmp_path, engine):
    plugin = Plugin(tmp_path / "state", [tmp_path / "engine.sock", tmp_path / "no engine.sock"])
    yield plugin
    plugin.store.close()


def test_what_an_engine_knew_and_knows_no_more_is_deleted(plugin, engine):
    plugin.have("a", "b")
    engine.known = ("a", "b", "of another driver")
    assert plugin.collected() == []
    engine.known = ("b",)
    assert plugin.collected() == ["a"]
    assert [row.id for row in plugin.store.rows(SIGHTINGS)] == ["b"]


def test_another_engine_has_not_forgotten_it(plugin, engine):
    plugin.have("a")
    engine.known = ("a",)
    plugin.collected()
    engine.id, engine.known = "engine 2", ()
    assert plugin.collected() == []
    engine.id = "engine 1"
    assert plugin.collected() == ["a"]


def test_a_network_with_endpoints_stays(plugin, engine):
    plugin.have("a")
    engine.known = ("a",)
    plugin.collected()
    plugin.store.intend(ENDPOINTS, "e", "a", replace(endpoint(), network_id="a"))
    plugin.store.commit(ENDPOINTS, "e")
    engine.known = ()
    assert plugin.collected() == []


def test_what_the_engine_knows_a_moment_later_stays(plugin, engine):
    plugin.have("a")
    plugin.forgotten.lost()
    engine.after = lambda: setattr(engine, "known", ("a",))
    assert plugin.collected() == []
    engine.known, engine.after = (), lambda: plugin.have("b")
    plugin.forgotten.lost()
    assert plugin.collected() == ["a"], "b was made while we looked"


def test_what_no_engine_ever_knew_is_deleted_if_as_many_requests_were_lost(plugin, caplog):
    plugin.have("a", "b")
    assert plugin.collected() == []
    plugin.forgotten.lost()
    assert plugin.collected() == []
    assert (caplog.text.count("knows network a"), caplog.text.count("knows network b")) == (1, 1), "told once"
    assert plugin.store.rows(LOST) == [], "it has had its turn"
    for _ in range(2):
        plugin.forgotten.lost()
    assert plugin.collected() == ["a", "b"]


def test_an_engine_that_cannot_be_asked_has_forgotten_nothing(plugin, engine, tmp_path):
    plugin.have("a")
    plugin.forgotten.lost()
    engine.status = 500
    with pytest.raises(Unavailable, match="cannot ask the engine on"):
        plugin.collected()
    engine.status = 200
    (tmp_path / "no engine.sock").touch()
    with pytest.raises(Unavailable):
        plugin.collected()
    (tmp_path / "no engine.sock").unlink()
    assert plugin.deleted == []
    assert plugin.collected() == ["a"], "what was lost is still on record"


def test_without_any_engine_nothing_is_forgotten(plugin, tmp_path):
    plugin.have("a")
    plugin.forgotten.lost()
    (tmp_path / "engine.sock").rename(tmp_path / "elsewhere.sock")
    assert plugin.collected() == []
