"""Captures: what others read in them."""

from __future__ import annotations

import subprocess
from ipaddress import ip_address
from pathlib import Path

from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapNgReader

from netplugin.capture import pcapng

AT_NS = 1_700_000_000_123_456_789


def test_what_is_written_is_what_others_read(tmp_path: Path) -> None:
    frames = [bytes(Ether() / IP(dst="10.9.0.2") / ICMP(seq=number) / (b"x" * number)) for number in range(5)]
    blocks = [pcapng.section("pynet"), pcapng.interface("ann on blue"), pcapng.interface("bob on blue")]
    blocks.append(pcapng.names({ip_address("10.9.0.2"): "ann", ip_address("fd09::2"): "ann"}))
    blocks += [
        pcapng.packet(number % 2, AT_NS + number, frame, inbound=bool(number % 2))
        for number, frame in enumerate(frames)
    ]
    path = tmp_path / "capture.pcapng"
    path.write_bytes(b"".join(blocks))
    with RawPcapNgReader(str(path)) as reader:
        read = list(reader)
    assert [data for data, _ in read] == frames
    assert [meta.ifname for _, meta in read] == [b"ann on blue", b"bob on blue"] * 2 + [b"ann on blue"]
    assert [meta.direction for _, meta in read] == [2, 1, 2, 1, 2]
    assert {(meta.tshigh << 32) + meta.tslow - AT_NS for _, meta in read} == set(range(5))
    told = subprocess.run(["tcpdump", "-n", "-r", path], capture_output=True, text=True, check=True, timeout=30)
    assert told.stdout.count("ICMP echo request") == len(frames)
