"""Frames of links as they are listened to, in a real kernel."""

import socket
from contextlib import closing

from netplugin.kernel.traffic.taps import Taps
from tests.network.sandboxes import command


def test_frames_end_when_they_are_told_to_and_none_is_lost(netns: None) -> None:
    command("ip", "link", "set", "lo", "up")
    with closing(Taps(["lo"])) as taps, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as talker:
        talker.bind(("127.0.0.1", 0))
        talker.sendto(b"one", talker.getsockname())
        taps.end()
        come = [*taps.frames(None), *taps.waiting()]
        assert [frame.data[-3:] for frame in come] == [b"one", b"one"], "sent and received"


def test_what_has_come_is_not_lost_when_the_listener_ends_and_nothing_comes_after_it(netns: None) -> None:
    command("ip", "link", "set", "lo", "up")
    with closing(Taps(["lo"])) as taps, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as talker:
        talker.bind(("127.0.0.1", 0))
        for text in (b"one", b"two"):
            talker.sendto(text, talker.getsockname())
        come = [frame.data for frame in taps.waiting()]
        assert [sum(data.endswith(text) for data in come) for text in (b"one", b"two")] == [2, 2], "sent and received"
        talker.sendto(b"three", talker.getsockname())
        assert list(taps.waiting()) == []
