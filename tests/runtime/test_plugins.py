"""Plugins are found and asked as dockerd does. The plugin is pyvol, or a socket that behaves badly."""

import socket
import threading

import pytest

from runtime.errors import BadParameter, Failed, NotFound
from runtime.plugins import discovery
from runtime.plugins.registry import Plugins
from runtime.plugins.transport import Refused, Unknown, Unreachable
from tests.serving import Serving

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


def answering(sockets, name, *answers):
    """A plugin that says each of `answers` to one connection, then ends; return what it was sent."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(sockets / f"{name}.sock"))
    server.listen()
    heard = []

    def serve():
        for answer in answers:
            client, _ = server.accept()
            with client:
                request = client.recv(65536)
                while b"Content-Length: 0" not in request and not request.endswith(b"}\n"):
                    request += client.recv(65536)
                heard.append(request)
                client.sendall(answer)
        server.close()

    threading.Thread(target=serve, daemon=True).start()
    return heard


ACTIVATED = HEAD + b'{"Implements": ["VolumeDriver"]}'


def test_a_real_plugin_answers_and_keeps_its_kinds_apart(mount_namespace, pyvol, plugins):
    assert plugins.call("pyvol", "VolumeDriver", "List", {})["Volumes"] == []
    with pytest.raises(NotFound, match="implements VolumeDriver; name another"):
        plugins.call("pyvol", "NetworkDriver", "GetCapabilities")
    with pytest.raises(Refused, match=r"VolumeDriver\.Get: cannot find the volume v"):
        plugins.call("pyvol", "VolumeDriver", "Get", {"Name": "v"})
    with pytest.raises(Unknown):
        plugins.call("pyvol", "VolumeDriver", "Nonsense", {})
    assert plugins.implementing("VolumeDriver") == plugins.known("VolumeDriver") == ["pyvol"]


def test_a_plugin_that_starts_late_is_waited_for(mount_namespace, state, sockets):
    serving = Serving("pyvol", sockets)
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if seconds == 4:
            serving.start()

    try:
        assert Plugins(state, sockets, (), sleep).call("pyvol", "VolumeDriver", "List", {})["Volumes"] == []
    finally:
        serving.kill()
    assert slept == [1, 2, 4]


def test_one_that_never_comes_is_given_up_as_dockerd_does(state, sockets):
    slept = []
    with pytest.raises(NotFound, match='plugin "nobody" not found'):
        Plugins(state, sockets, (), slept.append).call("nobody", "VolumeDriver", "List", {})
    assert slept == [1, 2, 4, 8]


def test_a_request_that_was_cut_off_is_sent_again_whole(state, sockets):
    heard = answering(sockets, "p", ACTIVATED, b"", HEAD + b'{"Volumes": null} trailing')
    slept = []
    answer = Plugins(state, sockets, (), slept.append).call("p", "VolumeDriver", "List", {"a": "b"})
    assert (answer, slept) == ({"Volumes": None}, [1])
    assert heard[1] == heard[2]
    assert heard[1].endswith(b'\r\n\r\n{"a": "b"}\n')


def test_a_dead_socket_is_passed_over_at_once_when_all_are_asked(mount_namespace, pyvol, sockets, plugins):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(sockets / "dead.sock"))
    assert plugins.implementing("VolumeDriver") == ["pyvol"]


def test_one_that_died_is_said_to_be_unreachable(state, sockets):
    answering(sockets, "p", ACTIVATED)
    plugins = Plugins(state, sockets, (), lambda seconds: None)
    assert plugins.implementing("VolumeDriver") == ["p"]
    with pytest.raises(Unreachable, match=r"p\.sock: .*is the plugin running\?"):
        plugins.call("p", "VolumeDriver", "List", {})


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (HEAD, Refused, "no JSON"),
        (HEAD + b'{"Error": "no"}', Refused, "VolumeDriver.List: no"),
        (b"HTTP/1.1 500 Oh\r\nConnection: close\r\n\r\n" + b'{"Err": "full"}', Refused, "VolumeDriver.List: full"),
        (b"HTTP/1.1 404 Oh\r\nConnection: close\r\n\r\nwhat", Unknown, "VolumeDriver.List: what"),
    ],
)
def test_a_refusal_is_told_in_its_own_words(state, sockets, answer, kind, words):
    answering(sockets, "p", ACTIVATED, answer)
    with pytest.raises(kind, match=words):
        Plugins(state, sockets, ()).call("p", "VolumeDriver", "List", {})


def test_files_name_the_address_and_a_socket_wins(tmp_path, sockets):
    specs = tmp_path / "specs"
    (specs / "b").mkdir(parents=True)
    (specs / "a.spec").write_text(" unix:///run/a/a.sock\n")
    (specs / "b" / "b.json").write_text('{"Name": "other", "Addr": "tcp://127.0.0.1:99"}')
    (specs / "c.spec").write_text("nonsense")
    assert discovery.find("a", sockets, (specs,)).socket == "/run/a/a.sock"
    found = discovery.find("b", sockets, (specs,))
    assert (found.host, found.port, found.tls) == ("127.0.0.1", 99, None)
    with pytest.raises(Failed, match="Unknown protocol"):
        discovery.find("c", sockets, (specs,))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(sockets / "a.sock"))
        assert discovery.find("a", sockets, (specs,)).socket == str(sockets / "a.sock")
        assert discovery.names(sockets, (specs,)) == ["a", "b", "c"]
    with pytest.raises(BadParameter):
        discovery.find("../a", sockets, (specs,))
