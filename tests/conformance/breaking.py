"""How something is broken on the host of a stage without an engine: links, settings, rules of ours and of others."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread

from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6ND_RS, IPv6
from scapy.layers.l2 import Ether

from netplugin.conform.cases.nd import ALL_NODES, ALL_NODES_MAC, link_local
from netplugin.conform.place import Place
from netplugin.conform.stage import ENDPOINTS
from tests.conformance.namespaces import ADDRESSES, NUMBERS, NamespaceStage, ident

Break = Callable[[NamespaceStage], object]
FAMILIES = ("ip", "ip6")


@dataclass(frozen=True)
class Breakage:
    """One thing that is broken, and which cases notice."""

    id: str
    says: str
    broken: tuple[Break, ...]
    kills: tuple[str, ...]
    alive: bool = False


def bridge(network: str) -> str:
    return f"pn-{ident(network)[:8]}"


def chain(prefix: str, network: str) -> str:
    return f"{prefix}-n{ident(network)[:8]}"


def port(endpoint: str) -> str:
    return f"pnv{ident(endpoint)[:8]}"


def address(endpoint: str, family: str) -> str:
    network, number = NUMBERS[ENDPOINTS[endpoint].network], ADDRESSES[endpoint]
    return f"10.{network}.0.{number}" if family == "ip" else f"fd{network}::{number}"


def command(*words: str) -> Break:
    return lambda stage: stage.near.run(*words)


def sysctl(*settings: str) -> Break:
    return command("sysctl", "-qw", *settings)


def nft(text: str) -> Break:
    """Rules were given to nft, once for each family: {family} in them is ip or ip6, {ann} an endpoint's address."""

    def done(stage: NamespaceStage) -> None:
        for family in FAMILIES:
            known = {name: address(name, family) for name in ENDPOINTS}
            stage.near.run("nft", text.format(family=family, **known))

    return done


def hooked(hook: str, rule: str, *, priority: int = 0, kind: str = "filter", family: str = "inet") -> Break:
    """A rule of somebody else's, in a table of its own, has this to say at a hook."""
    head = f"type {kind} hook {hook} priority {priority};"

    def done(stage: NamespaceStage) -> None:
        stage.near.run("nft", f"table {family} foreign_{hook} {{ chain {kind}{abs(priority)} {{ {head} {rule}; }}; }}")

    return done


def inserted(prefix: str, network: str, rule: str) -> Break:
    return nft(f"insert rule {{family}} pynet {chain(prefix, network)} {rule}")


def flushed(prefix: str, network: str) -> Break:
    return nft(f"flush chain {{family}} pynet {chain(prefix, network)}")


def published(protocol: str, outside: int, endpoint: str, inside: int) -> Break:
    """One more port is published."""
    element = f"{protocol} . {outside} : {{{endpoint}}} . {inside}"
    return nft(f"add element {{family}} pynet ports_any {{{{ {element} }}}}")


def flags(*settings: str, of: tuple[str, ...]) -> Break:
    def done(stage: NamespaceStage) -> None:
        for endpoint in of:
            stage.near.run("bridge", "link", "set", "dev", port(endpoint), *settings)

    return done


def router(network: str) -> Break:
    """Who asks for routers on the network is answered once, by the host's end of it."""

    def done(stage: NamespaceStage) -> None:
        gateway = Place(stage.near.path, bridge(network), "02:00:00:00:00:77")
        heard = gateway.hear(lambda frame: ICMPv6ND_RS in frame)
        announced = Ether(src=gateway.mac, dst=ALL_NODES_MAC) / IPv6(
            src=link_local(gateway.mac), dst=ALL_NODES, hlim=255
        )

        def answer() -> None:
            with heard:
                heard.first(within_s=30)
                gateway.send(announced / ICMPv6ND_RA())

        Thread(target=answer, daemon=True).start()

    return done


def sizes_forgotten(endpoint: str) -> Break:
    """A container does not remember what it was told of sizes before."""

    def done(stage: NamespaceStage) -> None:
        for version in ("-4", "-6"):
            stage.endpoint(endpoint).place.run("ip", version, "route", "flush", "cache")

    return done
