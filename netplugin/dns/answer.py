"""From the bytes of a query, which a hostile container may have made, to those of its answer. Pure.

Authoritative for the containers of one network, and forwards nothing: what is about others is REFUSED, upon which
resolvers ask their next server. Source: RFC 1035, 2308 (negative answers), 6891 (EDNS), 8482 (ANY).
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from dnslib import AAAA, PTR, QTYPE, RCODE, RR, SOA, A, DNSHeader, DNSLabel, DNSQuestion, DNSRecord

from netplugin.dns.zone import Address, Domain, Zone

# Whatever changes is to be seen by the next question.
TTL_S = 0
# More is cut off, and asked for again by TCP. Source: RFC 6891 section 6.2.3; 1232 is the least MTU of IPv6's room.
_LEAST_BYTES, _MOST_BYTES = 512, 1232
_MOST_STREAM_BYTES = 0xFFFF
_HEADER_BYTES = 12
# Of thousands of containers with one alias, so many are told.
_MOST_ADDRESSES = 1000
_IN, _QUERY, _IS_ANSWER = 1, 0, 0x80


def answer(query: bytes, zone: Zone, domain: Domain, *, is_stream: bool) -> bytes | None:
    """Return what is to be sent back; None: nothing, for it asks nothing. is_stream: it came by TCP."""
    # Answers to answers would go to and fro for ever.
    if len(query) < _HEADER_BYTES or query[2] & _IS_ANSWER:
        return None
    try:
        asked = DNSRecord.parse(query)
    except Exception:  # noqa: BLE001 - the library has no list of what a hostile packet makes it raise
        return _bare(query, RCODE.FORMERR)
    if asked.header.opcode != _QUERY:
        return _bare(query, RCODE.NOTIMP)
    if len(asked.questions) != 1 or asked.rr or asked.auth:
        return _bare(query, RCODE.FORMERR)
    header = DNSHeader(id=asked.header.id, bitmap=0, qr=1, aa=1, rd=asked.header.rd)
    reply = DNSRecord(header, questions=[DNSQuestion(asked.q.qname, asked.q.qtype, asked.q.qclass)])
    _fill(reply, zone, domain)
    extended = next((record for record in asked.ar if record.rtype == QTYPE.OPT), None)
    room = _MOST_STREAM_BYTES
    if extended is not None:
        reply.add_ar(RR(DNSLabel(b""), QTYPE.OPT, rclass=_MOST_BYTES, ttl=0, rdata=[]))
    if not is_stream:
        room = min(max(extended.rclass, _LEAST_BYTES), _MOST_BYTES) if extended is not None else _LEAST_BYTES
    packed = bytes(reply.pack())
    if len(packed) > room:
        reply.rr, reply.auth, header.tc = [], [], 1
        packed = bytes(reply.pack())
    return packed


def _fill(reply: DNSRecord, zone: Zone, domain: Domain) -> None:
    """The reply says what the zone knows of its question."""
    question = reply.q
    name = b".".join(question.qname.label).lower().decode("ascii", "replace")
    pointer = _pointed_at(name)
    if question.qclass != _IN:
        reply.header.rcode, reply.header.aa = RCODE.REFUSED, 0
    elif pointer is not None and any(pointer in pool for pool in domain.pools):
        names = zone.names(pointer)
        if names and question.qtype in (QTYPE.PTR, QTYPE.ANY):
            reply.add_answer(RR(question.qname, QTYPE.PTR, ttl=TTL_S, rdata=PTR(f"{names[0]}.{domain.name}".encode())))
        _say_none(reply, question.qname, is_known=bool(names))
    elif found := _addresses(name, zone, domain):
        # From another one each time, so that who takes the first does not always have the same.
        start = reply.header.id % len(found)
        for address in (*found[start:], *found[:start])[:_MOST_ADDRESSES]:
            kind = QTYPE.A if address.version == 4 else QTYPE.AAAA
            if question.qtype in (kind, QTYPE.ANY):
                data = A(str(address)) if address.version == 4 else AAAA(str(address))
                reply.add_answer(RR(question.qname, kind, ttl=TTL_S, rdata=data))
        _say_none(reply, question.qname, is_known=True)
    elif name == domain.name or name.endswith(f".{domain.name}"):
        _say_none(reply, DNSLabel(domain.name.encode()), is_known=name == domain.name)
    elif name and "." not in name:
        # A name of one word is nobody's but a container's; an outside server would be told of a typing error.
        _say_none(reply, question.qname, is_known=False)
    else:
        reply.header.rcode, reply.header.aa = RCODE.REFUSED, 0


def _addresses(name: str, zone: Zone, domain: Domain) -> tuple[Address, ...]:
    """Return who has the name, with the network's name behind it or without."""
    return zone.addresses(name) or zone.addresses(name.removesuffix(f".{domain.name}"))


def _say_none(reply: DNSRecord, owner: DNSLabel, *, is_known: bool) -> None:
    """If nothing was found the reply says so, in the way that says for how long."""
    if reply.rr:
        return
    if not is_known:
        reply.header.rcode = RCODE.NXDOMAIN
    times = (1, TTL_S, TTL_S, TTL_S, TTL_S)
    reply.add_auth(RR(owner, QTYPE.SOA, ttl=TTL_S, rdata=SOA(owner, owner, times)))


def _bare(query: bytes, rcode: int) -> bytes:
    """Return a header without anything behind it, to a query that cannot be read."""
    opcode = query[2] & 0x78
    return struct.pack("!2sBBHHHH", query[:2], _IS_ANSWER | opcode | (query[2] & 1), rcode, 0, 0, 0, 0)


def _pointed_at(name: str) -> Address | None:
    """Return the address that a name below in-addr.arpa or ip6.arpa is of; None for others."""
    labels = name.split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"]:
            return IPv4Address(".".join(reversed(labels[:-2])))
        if labels[-2:] == ["ip6", "arpa"] and len(labels) == 34 and all(len(label) == 1 for label in labels[:-2]):
            return IPv6Address(int("".join(reversed(labels[:-2])), 16))
    except ValueError:
        return None
    return None
