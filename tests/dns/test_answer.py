"""What is answered to a query, well made or not."""

from ipaddress import ip_address, ip_network

import pytest
from dnslib import EDNS0, QTYPE, RCODE, RR, A, DNSHeader, DNSQuestion, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from netplugin.dns.answer import answer
from netplugin.dns.zone import Domain, Zone, parse_names

BLUE = Domain("blue", (ip_network("10.61.0.0/24"), ip_network("fd61::/64")))
BOB, BOB6, ANN = map(ip_address, ("10.61.0.2", "fd61::2", "10.61.0.3"))


def zone():
    zone = Zone()
    zone.put(BOB, ("bob", "web", "0123456789ab"))
    zone.put(BOB6, ("bob", "web", "0123456789ab"))
    zone.put(ANN, ("ann", "web"))
    return zone


def asked(query, known=None, *, is_stream=False):
    said = answer(bytes(query.pack()), known or zone(), BLUE, is_stream=is_stream)
    assert said is not None
    reply = DNSRecord.parse(said)
    assert (reply.header.id, reply.header.qr, reply.header.ra) == (query.header.id, 1, 0)
    return reply


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "found"),
    [
        ("bob", "A", "NOERROR", {"10.61.0.2"}),
        ("BoB.BLUE.", "AAAA", "NOERROR", {"fd61::2"}),
        ("web", "A", "NOERROR", {"10.61.0.2", "10.61.0.3"}),
        ("web.blue", "ANY", "NOERROR", {"10.61.0.2", "10.61.0.3", "fd61::2"}),
        ("ann", "AAAA", "NOERROR", set()),
        ("bob", "MX", "NOERROR", set()),
        ("blue", "A", "NOERROR", set()),
        ("bill", "A", "NXDOMAIN", set()),
        ("bill.blue", "A", "NXDOMAIN", set()),
        ("a.bob.blue", "A", "NXDOMAIN", set()),
        ("example.com", "A", "REFUSED", set()),
        ("bob.green", "A", "REFUSED", set()),
        ("myblue.example", "A", "REFUSED", set()),
        (".", "NS", "REFUSED", set()),
        (BOB.reverse_pointer, "PTR", "NOERROR", {"bob.blue."}),
        (BOB6.reverse_pointer, "PTR", "NOERROR", {"bob.blue."}),
        (BOB.reverse_pointer, "A", "NOERROR", set()),
        ("9.0.61.10.in-addr.arpa", "PTR", "NXDOMAIN", set()),
        ("9.9.9.9.in-addr.arpa", "PTR", "REFUSED", set()),
        ("x.61.10.in-addr.arpa", "PTR", "REFUSED", set()),
    ],
)
def test_what_is_answered(name, kind, rcode, found):
    reply = asked(DNSRecord.question(name, kind))
    assert RCODE[reply.header.rcode] == rcode
    assert {str(record.rdata) for record in reply.rr} == found
    assert {record.ttl for record in reply.rr} <= {0}
    # What is not there is said with an authority, by which resolvers know that they need not ask others.
    assert [QTYPE[record.rtype] for record in reply.auth] == (["SOA"] if rcode != "REFUSED" and not found else [])
    assert reply.header.aa == (rcode != "REFUSED")


def test_other_classes_operations_and_questions_are_turned_away():
    assert asked(DNSRecord(questions=[DNSQuestion("bob", QTYPE.A, 3)])).header.rcode == RCODE.REFUSED
    assert asked(DNSRecord(DNSHeader(opcode=5), questions=[DNSQuestion("bob")])).header.rcode == RCODE.NOTIMP
    two = DNSRecord(questions=[DNSQuestion("bob"), DNSQuestion("ann")])
    assert asked(two).header.rcode == RCODE.FORMERR
    carrying = DNSRecord.question("bob")
    carrying.add_answer(RR("bob", rdata=A("1.2.3.4")))
    assert asked(carrying).header.rcode == RCODE.FORMERR


def test_answers_are_not_answered():
    assert answer(bytes(DNSRecord.question("bob").reply().pack()), zone(), BLUE, is_stream=False) is None


def test_what_is_too_long_for_a_datagram_is_cut_off():
    many = Zone()
    for number in range(2000):
        many.put(ip_address("10.61.0.0") + number, ("web",))
    for query, room in ((DNSRecord.question("web"), 512), (DNSRecord(ar=[EDNS0(udp_len=4096)]), 1232)):
        query.questions = [DNSQuestion("web")]
        said = answer(bytes(query.pack()), many, BLUE, is_stream=False)
        reply = DNSRecord.parse(said)
        assert (reply.header.tc, reply.rr, len(said) <= room) == (1, [], True)
        whole = answer(bytes(query.pack()), many, BLUE, is_stream=True)
        assert len(DNSRecord.parse(whole).rr) == 1000
    several = Zone()
    for number in range(40):
        several.put(ip_address("10.61.0.0") + number, ("web",))
    assert asked(DNSRecord.question("web"), several).header.tc == 1
    larger = DNSRecord(questions=[DNSQuestion("web")], ar=[EDNS0(udp_len=1232)])
    assert len(asked(larger, several).rr) == 40


def test_who_takes_the_first_address_does_not_always_get_the_same():
    firsts = {str(asked(DNSRecord.question("web")).rr[0].rdata) for _ in range(64)}
    assert firsts == {"10.61.0.2", "10.61.0.3"}


@given(st.binary(max_size=600))
def test_bytes_of_any_kind_are_answered_shortly_or_not_at_all(query):
    said = answer(query, zone(), BLUE, is_stream=False)
    assert (said is None) == (len(query) < 12 or query[2] >= 0x80)
    assert said is None or (said[:2] == query[:2] and len(said) <= 1232)


@given(st.data())
def test_a_query_that_was_spoilt_is_answered_as_well(data):
    query = bytearray(DNSRecord(questions=[DNSQuestion("bob.blue")], ar=[EDNS0(udp_len=1232)]).pack())
    for _ in range(data.draw(st.integers(1, 4))):
        query[data.draw(st.integers(0, len(query) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(query[: data.draw(st.integers(0, len(query)))])
    said = answer(cut, zone(), BLUE, is_stream=False)
    assert said is None or DNSRecord.parse(said).header.qr == 1


def test_compression_that_leads_in_circles_ends():
    query = b"\0\1\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1"
    assert answer(query, zone(), BLUE, is_stream=False) == b"\0\1\x81\1" + bytes(8)


@given(
    st.lists(
        st.tuples(st.sampled_from([BOB, BOB6, ANN]), st.lists(st.sampled_from(["a", "b", "c"]), unique=True)),
        max_size=20,
    )
)
def test_a_zone_is_what_was_put_last(puts):
    known, last = Zone(), {}
    for address, names in puts:
        known.put(address, tuple(names))
        last[address] = tuple(names)
    assert known.known() == {address: names for address, names in last.items() if names}
    for name in "abc":
        assert set(known.addresses(name)) == {address for address, names in last.items() if name in names}
        assert len(known.addresses(name)) == len(set(known.addresses(name)))


def test_names_that_dns_cannot_carry_are_none():
    given = ["Bob", "bob", "a.b", "-x_", "ä", "a..b", ".a", "a.", "x" * 64, "", "a b", "ok\n", *map(str, range(30))]
    assert parse_names(given) == ("bob", "a.b", "-x_", *map(str, range(13)))
