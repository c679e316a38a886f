"""A plugin as a real process: its start, its signals, its deaths, and callers that misbehave."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.serving import until
from tests.unit.plugin_process import PluginProcess, exists

Start = Callable[..., PluginProcess]

# The service manager's part of sd_listen_fds(3): the socket as descriptor 3, then the program in the same process.
SYSTEMD = """
import os, socket, sys
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
listening.listen()
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start plugins in one directory; none is left at the end."""
    started: list[PluginProcess] = []

    def start_one(command: tuple[str, ...] = (), **environment: str) -> PluginProcess:
        started.append(PluginProcess(tmp_path, command, **environment))
        return started[-1]

    yield start_one
    for plugin in started:
        plugin.end()


@pytest.fixture
def plugin(start: Start) -> PluginProcess:
    return start().wait_until_it_answers()


def test_it_answers_activate_on_a_socket_for_its_group(plugin: PluginProcess) -> None:
    assert plugin.call("Plugin.Activate") == {"Implements": ["TinyDriver"]}
    assert stat.S_IMODE(plugin.socket.stat().st_mode) == 0o660


def test_it_knows_who_asks(plugin: PluginProcess) -> None:
    assert plugin.status()["Caller"].startswith(f"{os.getpid()}@")


def test_large_buffers_are_the_kernels_again_when_they_are_freed(plugin: PluginProcess) -> None:
    answer = plugin.call("Tiny.Mapped")
    assert answer["Bytes"] >= answer["Of"]


@pytest.mark.parametrize("slow", ["SLOW_LOAD", "SLOW_START"])
def test_a_request_that_comes_before_all_is_loaded_waits(start: Start, slow: str) -> None:
    plugin = start(**{slow: "3"})
    with socket.socket(socket.AF_UNIX) as early:
        until(lambda: early.connect_ex(str(plugin.socket)) == 0, "a socket that listens")
        early.sendall(b"POST /Plugin.Activate HTTP/1.1\r\nHost: tiny\r\nContent-Length: 0\r\n\r\n")
        early.settimeout(1)
        with pytest.raises(TimeoutError):
            early.recv(1)
        early.settimeout(20)
        assert early.recv(64).startswith(b"HTTP/1.1 200")


def test_term_lets_running_requests_finish_and_leaves_with_0(plugin: PluginProcess) -> None:
    with ThreadPoolExecutor(4) as pool:
        slow = [pool.submit(plugin.call, "Tiny.Sleep", {"Seconds": 1.5}) for _ in range(4)]
        until(lambda: plugin.status()["Running"] == 4, "four running requests")
        plugin.process.send_signal(signal.SIGTERM)
        assert [running.result() for running in slow] == [{"Slept": 1.5}] * 4
    assert plugin.process.wait(20) == 0


def test_term_at_rest_is_quick(plugin: PluginProcess) -> None:
    started = time.monotonic()
    plugin.process.terminate()
    assert plugin.process.wait(20) == 0
    assert time.monotonic() - started < 5


def test_hup_reconciles_in_the_same_worker(plugin: PluginProcess) -> None:
    before = plugin.status()
    for rounds in (1, 2, 3):
        plugin.process.send_signal(signal.SIGHUP)
        until(lambda rounds=rounds: plugin.status()["Reconciles"] == before["Reconciles"] + rounds, "a reconcile")
    assert plugin.status()["Pid"] == before["Pid"]
    assert "the next round must come all the same" in plugin.log()


def test_after_kill_9_of_the_master_it_can_be_started_again_at_once(plugin: PluginProcess, start: Start) -> None:
    worker = plugin.status()["Pid"]
    plugin.process.kill()
    plugin.process.wait()
    again = start()
    until(lambda: not exists(worker), "the end of the old worker")
    again.wait_until_it_answers()
    assert again.status()["Parent"] == again.process.pid


def test_a_killed_worker_is_replaced(plugin: PluginProcess) -> None:
    worker = plugin.status()["Pid"]
    os.kill(worker, signal.SIGKILL)
    until(lambda: plugin.answers() and plugin.status()["Pid"] != worker, "a new worker")
    assert plugin.call("Tiny.Echo", {"Text": "x"}) == {"Text": "x"}


def test_a_second_one_is_refused_and_the_first_does_not_notice(plugin: PluginProcess, start: Start) -> None:
    second = start()
    assert second.process.wait(60) != 0
    assert f"cannot use the state directory {plugin.socket.parent}" in plugin.log()
    assert plugin.answers()


@pytest.mark.parametrize("when", ["check", "start"])
def test_a_failing_start_is_one_clear_line(start: Start, when: str) -> None:
    plugin = start(FAIL=when)
    assert plugin.process.wait(30) not in (0, None)
    lines = [line for line in plugin.log().splitlines() if "cannot use the state file" in line]
    assert len(lines) == 1, plugin.log()
    assert "Traceback" not in plugin.log()


def test_a_socket_passed_by_systemd_is_served_and_not_removed(start: Start, tmp_path: Path) -> None:
    passed = tmp_path / "tiny.sock"
    plugin = start((sys.executable, "-c", SYSTEMD, str(passed))).wait_until_it_answers()
    assert plugin.call("Tiny.Echo", {"Text": "x"}) == {"Text": "x"}
    plugin.process.terminate()
    assert plugin.process.wait(20) == 0
    assert passed.is_socket()


def test_64_parallel_requests_are_answered_at_the_same_time(plugin: PluginProcess) -> None:
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: plugin.call("Tiny.Sleep", {"Seconds": 1.0}), range(64)))
    assert answers == [{"Slept": 1.0}] * 64
    assert plugin.status()["MostRunning"] > 32


def test_a_connection_that_says_nothing_is_closed_in_silence(plugin: PluginProcess) -> None:
    """Docker does that to every managed plugin: it dials, and hangs up."""
    before = plugin.log()
    for _ in range(50):
        plugin.connect().close()
    assert plugin.call("Tiny.Echo", {"Text": "x"}) == {"Text": "x"}
    assert plugin.log() == before


def half_a_request(client: socket.socket) -> None:
    client.sendall(b"POST /Tiny.Echo HTTP/1.1\r\nHost: x\r\nContent-Len")


def half_a_body(client: socket.socket) -> None:
    client.sendall(b'POST /Tiny.Echo HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{"Text"')


def nothing(client: socket.socket) -> None:
    pass


@pytest.mark.parametrize("send", [nothing, half_a_request, half_a_body], ids=lambda send: send.__name__)
def test_callers_that_stop_half_way_do_not_block_others(plugin: PluginProcess, send) -> None:
    waiting = [plugin.connect() for _ in range(30)]
    for client in waiting:
        send(client)
    started = time.monotonic()
    for _ in range(20):
        assert plugin.call("Tiny.Echo", {"Text": "x"}) == {"Text": "x"}
    assert time.monotonic() - started < 10
    for client in waiting:
        client.close()
    assert plugin.answers()
    assert "Traceback" not in plugin.log()


def test_a_slow_caller_is_answered_when_it_has_finished(plugin: PluginProcess) -> None:
    with plugin.connect() as client:
        for byte in b'POST /Tiny.Echo HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{"Text":"x"}':
            client.sendall(bytes([byte]))
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b'{"Text":"x"}')


def test_more_callers_that_never_finish_than_there_are_threads_are_hung_up_on(plugin: PluginProcess) -> None:
    waiting = [plugin.connect() for _ in range(70)]
    for client in waiting:
        half_a_body(client)
    started = time.monotonic()
    assert plugin.call("Tiny.Echo", {"Text": "x"}) == {"Text": "x"}
    assert time.monotonic() - started < 20
    for client in waiting:
        client.close()
    assert "Traceback" not in plugin.log()


def test_a_caller_that_closes_its_sending_half_gets_its_answer(plugin: PluginProcess) -> None:
    with plugin.connect() as client:
        client.sendall(b'POST /Tiny.Echo HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{"Text":"x"}')
        client.shutdown(socket.SHUT_WR)
        assert client.makefile("rb").read().endswith(b'{"Text":"x"}')


@pytest.mark.parametrize(
    ("body", "status"),
    [('{"Text":"x"}', b"200"), ('{"Text":"refused"}', b"500"), ("{", b"400"), ("", None), ('{"Text":"bug"}', None)],
)
def test_where_an_answer_would_do_harm_there_is_none(plugin: PluginProcess, body: str, status: bytes | None) -> None:
    """dockerd forgets a volume when Get is answered with an error, and asks again when the connection breaks."""
    with plugin.connect() as client:
        client.sendall(f"POST /Tiny.Fragile HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        try:
            answer = client.makefile("rb").read()
        except ConnectionResetError:
            answer = b""
    assert answer.split(b" ")[1:2] == ([status] if status else [])
    assert plugin.answers()


def test_the_connection_is_closed_after_each_answer(plugin: PluginProcess) -> None:
    with plugin.connect() as client:
        client.sendall(b"POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert b"Connection: close" in client.makefile("rb").read()


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"\r\n" * 1000, b"A" * 100_000],
    ids=["TLS", "HTTP/0.9", "HTTP/9.9", "blank lines", "one long line"],
)
def test_what_is_no_http_ends_its_connection_and_no_more(plugin: PluginProcess, garbage: bytes) -> None:
    worker = plugin.status()["Pid"]
    with plugin.connect() as client:
        try:
            client.sendall(garbage)
            client.shutdown(socket.SHUT_WR)
            client.makefile("rb").read()
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert plugin.status()["Pid"] == worker
    assert "Traceback" not in plugin.log()


def test_memory_descriptors_and_threads_stay_flat(plugin: PluginProcess) -> None:
    requests = [
        ("POST", "Tiny.Echo", b'{"Text": "x"}', 200),
        ("POST", "Tiny.Echo", b"", 400),
        ("POST", "Tiny.Echo", b"{garbage", 400),
        ("POST", "Tiny.Unknown", b"{}", 404),
        ("GET", "Tiny.Echo", b"", 405),
    ]

    def ask(number: int) -> None:
        verb, method, body, expected = requests[number % len(requests)]
        assert plugin.raw(verb, method, body)[0] == expected

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(1000)))
        before = plugin.status()
        list(pool.map(ask, range(5000)))
        after = plugin.status()
    assert after["RssBytes"] - before["RssBytes"] < 10_000_000
    assert after["Descriptors"] <= before["Descriptors"] + 8
    assert after["Threads"] <= 70
