"""The codec: what goes in comes out, and nothing that comes from outside raises anything but BadRequest."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluginkit import wire
from pluginkit.errors import BadRequest


@dataclass(frozen=True)
class Port:
    number: int
    protocol: str = "tcp"


@dataclass(frozen=True)
class Everything:
    """One field of each shape that a request or a record has."""

    name: str
    size_bytes: int
    internal: bool
    address4: IPv4Address
    address6: IPv6Address
    interface4: IPv4Interface
    interface6: IPv6Interface | None
    network4: IPv4Network
    network6: IPv6Network | None
    ports: tuple[Port, ...]
    options: dict[str, str] = field(default_factory=dict)
    note: str | None = None


@dataclass(frozen=True)
class Small:
    Name: str
    Port: int = 0
    Gateway: IPv4Address | None = None


addresses4 = st.ip_addresses(v=4)
addresses6 = st.ip_addresses(v=6)
prefixes4 = st.tuples(addresses4, st.integers(0, 32))
prefixes6 = st.tuples(addresses6, st.integers(0, 128))
everything = st.builds(
    Everything,
    name=st.text(),
    size_bytes=st.integers(-(2**63), 2**63 - 1),
    internal=st.booleans(),
    address4=addresses4,
    address6=addresses6,
    interface4=prefixes4.map(IPv4Interface),
    interface6=st.none() | prefixes6.map(IPv6Interface),
    network4=prefixes4.map(lambda prefix: IPv4Network(prefix, strict=False)),
    network6=st.none() | prefixes6.map(lambda prefix: IPv6Network(prefix, strict=False)),
    ports=st.lists(st.builds(Port, number=st.integers(0, 65535))).map(tuple),
    options=st.dictionaries(st.text(), st.text()),
    note=st.none() | st.text(),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def decode_or_refuse(body: bytes, wanted: type[Any]) -> None:
    with contextlib.suppress(BadRequest):
        assert isinstance(wire.decode(body, wanted), wanted)


@given(everything)
def test_a_record_survives_the_round_trip(record: Everything) -> None:
    assert wire.decode(wire.encode(record), Everything) == record


@given(everything)
def test_records_are_plain_json(record: Everything) -> None:
    document = json.loads(wire.encode(record))
    assert document["address4"] == str(record.address4)
    assert document["network4"] == str(record.network4)


@given(st.dictionaries(st.text().filter(lambda name: name not in Small.__dataclass_fields__), json_values))
def test_unknown_fields_are_ignored_whatever_they_hold(unknown: dict[str, Any]) -> None:
    body = json.dumps({**unknown, "Name": "n", "Port": 1}).encode()
    assert wire.decode(body, Small) == Small("n", 1)


@pytest.mark.parametrize("body", [b"", b" ", b"\n", b"\r\n\t "])
def test_an_empty_body_is_not_an_empty_object(body: bytes) -> None:
    with pytest.raises(BadRequest, match="empty"):
        wire.decode(body, Small)


def test_an_empty_object_is_one_when_nothing_is_required() -> None:
    @dataclass(frozen=True)
    class Nothing:
        pass

    assert wire.decode(b"{}\n", Nothing) == Nothing()


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("{}", "Name"),
        ('{"Port": 1}', "Name"),
        ('{"Name": 5}', "Name"),
        ('{"Name": null}', "Name"),
        ('{"Name": ["n"]}', "Name"),
        ('{"Name": "n", "Port": "80"}', "Port"),
        ('{"Name": "n", "Port": 1.5}', "Port"),
        ('{"Name": "n", "Port": true}', "Port"),
        ('{"Name": "n", "Gateway": "10.0.0.256"}', "Gateway"),
        ('{"Name": "n", "Gateway": "10.0.0.1/24"}', "Gateway"),
        ('{"Name": "n", "Gateway": "fd00::1"}', "Gateway"),
        ('{"Name": "n", "Gateway": ""}', "Gateway"),
        ('{"Name": "n", "Gateway": 167772161}', "Gateway"),
        ('{"Name": "n", "Gateway": true}', "Gateway"),
        ('{"Name": "n", "Gateway": ["10.0.0.1"]}', "Gateway"),
        ('{"Name": "n", "Gateway": {}}', "Gateway"),
    ],
)
def test_a_missing_or_mistyped_field_is_named(body: str, names: str) -> None:
    with pytest.raises(BadRequest, match=names) as refused:
        wire.decode(body.encode(), Small)
    assert str(refused.value).startswith("cannot read Small: ")


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b'"text"',
        b"5",
        b"{",
        b'{"Name": "n"} trailing',
        b'{"Name": "n"}{"Name": "m"}',
        b'{"Name": "\xff"}',
        b'{"Name": "\\ud800"}',
        b'{"\\ud800": 1, "Name": "n"}',
        b'{"Name": "n", "Port": 1e999}',
        b'{"Name": "n", "Port": 99999999999999999999999}',
        b'{"Name": "n", "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"Name": ' + b'{"x":' * 100_000,
        b"[" * 100_000,
        "{'Name': 'n'}".encode("utf-16"),
        b"\x00\x01\x02",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_known_nastiness_is_a_bad_request(body: bytes) -> None:
    """Some of these are readable JSON to one parser and not to another: either is right, a crash is not."""
    decode_or_refuse(body, Small)


@given(st.binary())
def test_garbage_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        wire.decode(body, Everything)


@given(everything, st.data())
def test_a_damaged_record_is_a_bad_request_or_another_record(record: Everything, data: st.DataObject) -> None:
    body = bytearray(wire.encode(record))
    position = data.draw(st.integers(0, len(body) - 1))
    body[position] ^= 1 << data.draw(st.integers(0, 7))
    decode_or_refuse(bytes(body), Everything)


@given(json_values)
def test_any_json_is_a_bad_request_or_a_request(value: Any) -> None:
    decode_or_refuse(json.dumps(value).encode(), Small)


def test_a_type_without_a_codec_is_a_bug_not_a_silent_text() -> None:
    with pytest.raises(NotImplementedError, match="object"):
        wire.encode({"thing": object()})
