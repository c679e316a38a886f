"""What can be broken on a host of the bridge's stage, and which cases notice.

Each row is one thing that somebody might do, or that a faulty pynet might leave out; `kills` are the cases that must
fail then and have passed before. pynet has been killed meanwhile, or it would put things right, unless it is `alive`.
"""

from tests.conformance.breaking import (
    Breakage,
    address,
    bridge,
    chain,
    command,
    flags,
    flushed,
    hooked,
    inserted,
    nft,
    port,
    published,
    router,
    sizes_forgotten,
    sysctl,
)

LAN = bridge("lan")
HOPS = "meta protocol ip ip ttl set 33; meta protocol ip6 ip6 hoplimit set 33"
ERRORS = "icmp type {{ {0} }} drop; icmpv6 type {{ {1} }} drop"
_errors = ERRORS.format

BREAKAGES = (
    Breakage(
        "no-firewall",
        "all of pynet's rules in the table of iptables are flushed: FORWARD's policy holds",
        (command("iptables", "-F", "PYNET-FORWARD"), command("ip6tables", "-F", "PYNET-FORWARD")),
        (
            *("icmp-outside", "icc-off-outside", "mtu-fragmented", "nat-ping-shared", "nat-error-keeps"),
            *("tcp-out", "tcp-refused-out", "tcp-simultaneous", "tcp-in", "publish-udp", "routed-source"),
        ),
    ),
    Breakage(
        "apart",
        "neighbours' ports are isolated from each other",
        (flags("isolated", "on", of=("ann", "bob", "dan", "eve")),),
        (
            *("arp-neighbour", "arp-probe-taken", "arp-stays", "nd-neighbour", "nd-duplicate", "nd-stays"),
            *("icmp-neighbour", "icmp-no-hop-inside", "icmp-port-inside", "fragments-inside", "mtu-inside"),
            *("tcp-inside", "internal-inside", "many-link", "many-routable", "many-one-hop", "many-limited"),
            *("many-directed", "many-member"),
        ),
    ),
    Breakage(
        "one-network",
        "a container of another network is put on this one",
        (command("ip", "link", "set", port("cat"), "master", LAN),),
        (
            *("arp-stays", "nd-stays", "many-link", "many-routable", "many-one-hop", "many-limited", "many-directed"),
            *("many-unknown",),
        ),
    ),
    Breakage(
        "silent-gateway",
        "the host answers neither for the gateway's address nor to echo requests",
        (
            sysctl(f"net.ipv4.conf.{LAN}.arp_ignore=8", "net.ipv4.icmp_echo_ignore_all=1"),
            sysctl("net.ipv6.icmp.echo_ignore_all=1"),
            hooked("input", f"iifname {LAN} icmpv6 type nd-neighbor-solicit drop"),
        ),
        ("arp-gateway-once", "nd-gateway", "icmp-gateway", "icmp-host"),
    ),
    Breakage(
        "proxies",
        "the gateway answers for everybody that it can reach",
        (
            sysctl(f"net.ipv4.conf.{LAN}.proxy_arp=1", f"net.ipv6.conf.{LAN}.proxy_ndp=1"),
            lambda stage: stage.near.run("ip", "neigh", "add", "proxy", address("cat", "ip6"), "dev", LAN),
        ),
        ("arp-no-proxy", "nd-no-proxy"),
    ),
    Breakage(
        "free-taken",
        "the host takes addresses that nobody was given",
        (
            command("ip", "addr", "add", "10.20.0.250/24", "dev", LAN),
            command("ip", "addr", "add", "fd20::dead/64", "dev", LAN, "nodad"),
        ),
        ("arp-free-silent", "arp-probe-free", "nd-free-silent"),
    ),
    Breakage(
        "quiet",
        "announcements of containers that come are dropped",
        (
            hooked("postrouting", f"oifname {port('bob')} ether type arp drop", family="bridge"),
            hooked("output", f"oifname {LAN} icmpv6 type nd-neighbor-advert drop"),
            hooked("forward", f"oifname {port('bob')} icmpv6 type nd-neighbor-advert drop", family="bridge"),
        ),
        ("arp-announced", "nd-announced"),
        alive=True,
    ),
    Breakage(
        "any-hops-believed",
        "solicitations arrive with a hop limit of 255 whatever it was",
        (hooked("prerouting", "icmpv6 type nd-neighbor-solicit ip6 hoplimit set 255", family="bridge"),),
        ("nd-far-away",),
    ),
    Breakage(
        "router-believed",
        "the host takes what routers announce",
        (sysctl(f"net.ipv6.conf.{LAN}.accept_ra=2", f"net.ipv6.conf.{LAN}.autoconf=1"),),
        ("nd-router-not-believed",),
    ),
    Breakage(
        "router",
        "somebody on the host announces itself as a router",
        (router("lan"),),
        ("nd-no-router",),
    ),
    Breakage(
        "hops",
        "whatever passes the host has 33 hops left",
        (
            hooked("prerouting", HOPS, priority=-300, family="bridge"),
            hooked("forward", HOPS, priority=-200),
            hooked("prerouting", HOPS, priority=-300),
        ),
        ("icmp-no-hop-inside", "icmp-one-hop-out", "icmp-one-hop-in", "icmp-time-exceeded", "icmp-no-time-outside"),
    ),
    Breakage(
        "classes",
        "the class of service of what passes is erased",
        (hooked("forward", "meta protocol ip ip dscp set 0; meta protocol ip6 ip6 dscp set 0"),),
        ("icmp-class-kept",),
    ),
    Breakage(
        "no-errors",
        "ICMP errors are dropped, the host's own and those that pass",
        (
            hooked(
                "output",
                _errors(
                    "destination-unreachable, time-exceeded", "destination-unreachable, time-exceeded, packet-too-big"
                ),
            ),
            hooked("forward", _errors("destination-unreachable", "destination-unreachable")),
            sizes_forgotten("ann"),
        ),
        (
            *("icmp-time-exceeded", "icmp-host-port", "mtu-told", "mtu-from-gateway", "mtu-found", "nat-error-in"),
            *("nat-error-router", "nat-error-stray", "publish-no-loop"),
        ),
    ),
    Breakage(
        "no-fragments",
        "fragments are dropped",
        (
            hooked("prerouting", "ip frag-off & 0x1fff != 0 drop; exthdr frag exists drop", priority=-450),
            hooked("prerouting", "ip frag-off & 0x1fff != 0 drop; exthdr frag exists drop", family="bridge"),
        ),
        ("fragments-inside", "fragments-out", "fragments-published", "fragments-reversed", "fragments-overlapping"),
    ),
    Breakage(
        "narrow",
        "links to a neighbour and outside take less than containers are told",
        (command("ip", "link", "set", port("bob"), "mtu", "1400"), command("ip", "link", "set", "eth0", "mtu", "1400")),
        ("mtu-inside", "mtu-outside"),
    ),
    Breakage(
        "wide",
        "the host believes that the way to the host behind a smaller MTU takes any packet",
        (
            command("ip", "route", "replace", "198.18.1.0/24", "via", "198.18.0.2"),
            command("ip", "-6", "route", "replace", "fd98:1::/64", "via", "fd98::2"),
            command("ip", "-6", "route", "del", "fd98:1::/64", "metric", "1024", "mtu", "lock", "1300"),
        ),
        ("mtu-told", "mtu-from-gateway", "mtu-not-in-pieces"),
    ),
    Breakage(
        "no-masquerading",
        "what leaves a network is not translated",
        (flushed("snat-from", "lan"), flushed("snat-from", "open")),
        (
            *("nat-host-address", "nat-shared-port", "nat-answer", "nat-filter-port", "nat-filter-address"),
            *("nat-error-in", "nat-error-router", "nat-error-keeps", "nat-error-stray", "nat-ping-source"),
            *("unprotected-source", "tcp-simultaneous", "tcp-filter"),
        ),
    ),
    Breakage(
        "masquerading",
        "what leaves a network is translated, to other ports, whatever its options say",
        (
            hooked(
                "postrouting",
                "oifname eth0 meta l4proto { udp, tcp } masquerade to :40000-50000 random",
                priority=90,
                kind="nat",
            ),
        ),
        ("nat-own-address", "nat-port-kept", "nat-port-low", "nat-same-mapping", "routed-source", "tcp-source-port"),
    ),
    Breakage(
        "full-cone",
        "whoever knows a mapping gets in by it",
        (
            hooked(
                "prerouting",
                f"iifname eth0 meta l4proto {{ udp, tcp }} th dport 20000-29999 "
                f"dnat ip to {address('ann', 'ip')}; iifname eth0 meta l4proto {{ udp, tcp }} th dport 20000-29999 "
                f"dnat ip6 to {address('ann', 'ip6')}",
                priority=-110,
                kind="nat",
            ),
        ),
        ("nat-filter-port", "nat-filter-address", "tcp-filter"),
    ),
    Breakage(
        "meddling",
        "data, checksums and options are changed on the way",
        (
            hooked("postrouting", "udp dport 5060 @th,64,8 set 0x58", priority=290),
            hooked("postrouting", "udp dport 7 udp checksum set 0x1234", priority=300),
            hooked("forward", "tcp option maxseg size set 1000; tcp flags & fin == fin drop"),
        ),
        ("nat-payload", "nat-checksum", "tcp-options", "tcp-half-closed"),
    ),
    Breakage(
        "any-reset",
        "a reset of any number ends a connection",
        (
            command(
                "nft",
                "table inet foreign_resets { set ended { type inet_service; flags dynamic, timeout; }; "
                "chain seen { type filter hook prerouting priority -300; "
                "iifname eth0 tcp flags & rst == rst add @ended { tcp sport timeout 10s }; }; "
                "chain told { type filter hook forward priority -10; tcp sport @ended reject with tcp reset; }; }",
            ),
        ),
        ("tcp-stray-reset",),
    ),
    Breakage(
        "nothing-published",
        "no port is published any more",
        (nft("flush map {family} pynet ports_any"), nft("flush map {family} pynet ranges_any")),
        (
            *("publish-udp", "publish-tcp", "publish-sctp", "publish-run", "publish-run-ends", "publish-answer"),
            *("publish-two-containers", "publish-from-host", "hairpin-own-tcp", "hairpin-neighbour-tcp"),
            *("hairpin-neighbour-udp", "hairpin-other-network", "hairpin-gateway", "tcp-in", "icc-off-published"),
        ),
    ),
    Breakage(
        "too-much-published",
        "ports are published that nobody asked for, and everything is let in",
        (
            *(published("udp", wrong, "ann", 53) for wrong in (8999, 8080, 53, 5454, 5555)),
            published("udp", 5386, "dan", 53),
            published("udp", 5383, "jim", 53),
            inserted("to", "closed", "accept"),
            inserted("to", "routed", "accept"),
        ),
        (
            *("publish-run-ends", "publish-other-protocol", "publish-inner-port", "publish-host-address"),
            *("publish-loopback-only", "internal-not-published", "routed-not-at-host"),
        ),
    ),
    Breakage(
        "sources-hidden",
        "what comes to a container carries the gateway's address",
        (hooked("postrouting", f"oifname {LAN} masquerade", priority=80, kind="nat"),),
        ("publish-source-kept",),
    ),
    Breakage(
        "no-way-back",
        "answers of neighbours do not come back by the host",
        (flushed("snat-to", "lan"),),
        # Neighbours' own answers are translated back even so, where the kernel has bridges' packets seen by iptables.
        ("publish-loopback", "hairpin-own-tcp"),
    ),
    Breakage(
        "old-port",
        "a port leads to the container that had it first, for ever",
        (
            hooked(
                "prerouting",
                f"udp dport 5385 dnat ip to {address('eva', 'ip')}; udp dport 5385 dnat ip6 to {address('eva', 'ip6')}",
                priority=-110,
                kind="nat",
            ),
        ),
        ("publish-moves", "publish-gone"),
        alive=True,
    ),
    Breakage("plugin-gone", "pynet does not run: it holds no ports", (), ("publish-held",)),
    Breakage(
        "no-local-output",
        "the host does not reach its containers",
        (hooked("output", f"oifname {LAN} meta l4proto {{ tcp, udp }} drop"),),
        ("isolation-host",),
    ),
    Breakage(
        "refusals-dropped",
        "what goes to a network is dropped in silence",
        (inserted("to", "lan", "drop"),),
        ("tcp-refused", "tcp-published-reset"),
    ),
    Breakage(
        "all-let-in",
        "the rules that keep networks apart are gone, and broadcasts are passed on",
        (
            *(inserted("to", network, "accept") for network in ("lan", "other", "closed", "apart", "routed")),
            inserted("from", "lan", "accept"),
            sysctl("net.ipv4.conf.all.bc_forwarding=1", "net.ipv4.conf.eth0.bc_forwarding=1"),
            sysctl(*(f"net.ipv4.conf.{bridge(network)}.bc_forwarding=1" for network in ("lan", "other"))),
        ),
        (
            *("isolation-networks", "isolation-networks-ping", "isolation-networks-published", "isolation-direct"),
            *("isolation-direct-published", "isolation-direct-established", "internal-no-way-in"),
            *("icc-off-by-gateway", "routed-others", "many-directed-outside", "many-directed-others"),
        ),
    ),
    Breakage(
        "all-let-out",
        "the rules that close an internal network are gone",
        (flushed("closed", "closed"), inserted("to", "lan", "accept")),
        ("internal-no-way-out", "internal-no-way-to-others"),
    ),
    Breakage(
        "icc-on",
        "containers of a network without communication are not isolated",
        (flags("isolated", "off", of=("fay", "gus")), inserted("to", "apart", "accept")),
        ("icc-off",),
    ),
    Breakage(
        "loopback-open",
        "packets to 127.0.0.1 are taken from everywhere",
        (
            sysctl(*(f"net.ipv4.conf.{link}.route_localnet=1" for link in (LAN, "eth0"))),
            command("nft", "flush", "chain", "ip", "pynet", chain("host", "lan")),
        ),
        ("isolation-loopback", "isolation-loopback-outside"),
    ),
    Breakage(
        "routed-closed",
        "the ports of networks without translation are closed",
        (inserted("to", "routed", "drop"), inserted("to", "open", "drop")),
        ("routed-published", "routed-ping", "unprotected-in"),
    ),
    Breakage(
        "for-everybody",
        "who may use a port is forgotten",
        (nft("flush map {family} pynet limit_ports_any"),),
        ("chosen-sources",),
    ),
    Breakage(
        "no-guard",
        "the table against spoofed packets is gone",
        (command("nft", "delete", "table", "bridge", "pynet_guard"),),
        (
            *("spoof-neighbour-ip", "spoof-gateway-ip", "spoof-foreign-ip", "spoof-mac", "spoof-gateway-mac"),
            *("spoof-out", "spoof-arp-gateway", "spoof-arp-neighbour", "spoof-nd-gateway", "spoof-router"),
            *("spoof-dhcp",),
        ),
    ),
    Breakage(
        "echo-to-all",
        "the host answers echo requests to everybody",
        (sysctl("net.ipv4.icmp_echo_ignore_broadcasts=0"),),
        ("many-ping",),
    ),
)
