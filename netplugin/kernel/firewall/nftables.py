"""Our nftables table of one family: chains by the nft program, map elements over netlink.

Chains change when networks come and go, and nft checks and explains them; elements change with every published port,
and their cost must not depend on how many there are. Each element's comment names its owner. Source: nft(8).
"""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from netplugin.kernel.firewall.activity import Activity
from netplugin.kernel.firewall.nfnetlink import Batch, Element, Nfnetlink, TableFamily, Verdict, ifname
from netplugin.resources import Family, NftBase, NftElement, NftPorts, NftRuleset
from pluginkit.command import run
from pluginkit.errors import CommandError, KernelError

_FAMILY: dict[Family, TableFamily] = {"ipv4": "ip", "ipv6": "ip6"}
_TIMEOUT_S = 15.0
# The owner under which a table is listed that no network is left to need.
_NOBODY = "nobody"

Place = tuple[str, bytes]


class Nftables:
    """Our table in this network namespace; it exists while there is a ruleset.

    Everything that was ensured is remembered, so that it can be made again as a whole when somebody flushed it.
    """

    def __init__(self, family: Family, base: NftBase, netlink: Nfnetlink, activity: Activity) -> None:
        self._family = family
        self._table_family = _FAMILY[family]
        self._table = base.table
        self._base = base
        self._netlink = netlink
        self._activity = activity
        self._turn = threading.Lock()
        self._rulesets: dict[str, NftRuleset] = {}
        self._ports: dict[str, dict[Place, Element]] = {}
        self._laid = False

    def ensure(self, want: NftRuleset | NftPorts) -> None:
        """What is wanted is in the table."""
        with self._turn:
            if isinstance(want, NftRuleset):
                if self._rulesets.get(want.owner) != want:
                    self._put_rules(want)
            else:
                self._put_ports(want)

    def foresee(self, wants: Sequence[NftRuleset | NftPorts]) -> None:
        """Rulesets among these are in the table, by one run of nft, unless it refuses one of them."""
        with self._turn:
            rulesets = [want for want in wants if isinstance(want, NftRuleset)]
            missing = [want for want in rulesets if self._rulesets.get(want.owner) != want]
            if len(missing) > 1:
                with suppress(CommandError):
                    self._nft(("" if self._laid else self._base.text) + "".join(map(self._text, missing)))
                    self._laid = True
                    self._rulesets |= {want.owner: want for want in missing}

    def remove(self, want: NftRuleset | NftPorts) -> None:
        """Nothing of the owner is in the table; with the last ruleset the table is gone."""
        with self._turn:
            if isinstance(want, NftPorts):
                gone = self._ports.pop(want.owner, {})
                self._change(gone, {})
            else:
                self._drop_rules(want.owner)

    def owned(self) -> Iterable[NftRuleset | NftPorts]:
        """Return what is in the table, after a fresh look, without the rules of chains; forget what is not there."""
        with self._turn:
            counts = self._count_rules()
            self._laid = bool(counts)
            led = {(name, element.key): element.data for name, element in self._jumps()}
            for owner, known in list(self._rulesets.items()):
                complete = all(counts.get(chain.name) == len(chain.rules) for chain in known.chains)
                if not (complete and _is_led_to(known, led)):
                    del self._rulesets[owner]
            self._ports = self._read_ports()
            found: list[NftRuleset | NftPorts] = [
                NftRuleset(self._family, owner, ())
                for owner in sorted({name.rpartition("-")[2] for name in counts if "-" in name})
            ]
            found += [NftPorts(self._family, owner, ()) for owner in sorted(self._ports)]
            if counts and not found:
                found = [NftRuleset(self._family, _NOBODY, ())]
        return found

    def _put_rules(self, want: NftRuleset) -> None:
        self._nft(("" if self._laid else self._base.text) + self._text(want))
        self._laid = True
        self._rulesets[want.owner] = want

    def _put_ports(self, want: NftPorts) -> None:
        have = self._ports.get(want.owner, {})
        wanted = {(element.set, element.key): _element(element, want.owner) for element in want.elements}
        gone = {place: element for place, element in have.items() if wanted.get(place) != element}
        new = {place: element for place, element in wanted.items() if have.get(place) != element}
        try:
            self._change(gone, new)
        except KernelError as exc:
            if exc.code != errno.ENOENT:
                raise
            # Somebody flushed the ruleset: the maps are gone, and the chains that verdicts name.
            self._rebuild()
            self._change({}, new)
        self._ports[want.owner] = wanted

    def _change(self, gone: dict[Place, Element], new: dict[Place, Element]) -> None:
        batch = Batch()
        for apply, elements in ((batch.delete, gone), (batch.add, new)):
            by_set: dict[str, list[Element]] = {}
            for (name, _), element in elements.items():
                by_set.setdefault(name, []).append(element)
            for name, listed in by_set.items():
                apply(self._table_family, self._table, name, listed)
        self._netlink.commit(batch)

    def _rebuild(self) -> None:
        """Everything remembered is in the table again, in one transaction for the rules and one for the ports."""
        self._nft(self._base.text + "".join(map(self._text, self._rulesets.values())))
        everything = {place: element for elements in self._ports.values() for place, element in elements.items()}
        self._change({}, everything)

    def _drop_rules(self, owner: str) -> None:
        known = self._rulesets.pop(owner, None)
        # With others left, and as it was put there, nothing has to be looked at.
        if known is not None and self._rulesets:
            with suppress(CommandError, KernelError):
                jumps = [(chain.map, Element(ifname(chain.interface))) for chain in known.chains if chain.map]
                self._drop_chains([chain.name for chain in known.chains], jumps)
                return
        counts = self._count_rules()
        mine = [name for name in counts if name.endswith(f"-{owner}")]
        if not mine and owner != _NOBODY:
            return
        if not any("-" in name and name not in mine for name in counts):
            self._nft(f"delete table {self._table_family} {self._table}\n")
            self._laid = False
            return
        jumps = self._jumps()
        self._drop_chains(
            mine, [one for one in jumps if isinstance(one[1].data, Verdict) and one[1].data.chain in mine]
        )

    def _drop_chains(self, names: Sequence[str], jumps: Iterable[tuple[str, Element]]) -> None:
        """The chains do not exist, nor the elements of maps that lead to them. Raises: CommandError, KernelError."""
        batch = Batch()
        for map_name, element in jumps:
            batch.delete(self._table_family, self._table, map_name, [element])
        self._netlink.commit(batch)
        where = f"{self._table_family} {self._table}"
        self._run("".join(f"{verb} chain {where} {name}\n" for verb in ("flush", "delete") for name in names))

    def _text(self, want: NftRuleset) -> str:
        """Return, for nft -f, what puts a ruleset in place, whether it is there already or not."""
        where = f"{self._table_family} {self._table}"
        lines = [f"add chain {where} {chain.name}" for chain in want.chains]
        for chain in want.chains:
            lines.append(f"flush chain {where} {chain.name}")
            lines += [f"add rule {where} {chain.name} {rule}" for rule in chain.rules]
            if chain.map:
                lines.append(f'add element {where} {chain.map} {{ "{chain.interface}" : jump {chain.name} }}')
        return "\n".join(lines) + "\n"

    def _nft(self, text: str) -> None:
        try:
            self._run(text)
        except CommandError:
            # The table may have gone since it was laid; with it laid again everything can be said.
            self._laid = False
            if text.startswith(self._base.text):
                raise
            self._run(self._base.text + text)

    def _run(self, text: str) -> None:
        run(["nft", "-f", "-"], stdin=text, timeout_s=_TIMEOUT_S, started=self._activity.mark)

    def _count_rules(self) -> dict[str, int]:
        """Return the number of rules by chain; {} without the table, for which nft is not needed."""
        if not self._netlink.has_table(self._table_family, self._table):
            return {}
        listed = run(
            ["nft", "-j", "-t", "list", "table", self._table_family, self._table], accept=(0, 1), timeout_s=_TIMEOUT_S
        )
        if listed.returncode:
            return {}
        counts: dict[str, int] = {}
        for entry in json.loads(listed.stdout)["nftables"]:
            kind, value = _only(entry)
            if kind == "chain":
                counts.setdefault(value["name"], 0)
            elif kind == "rule":
                counts[value["chain"]] = counts.get(value["chain"], 0) + 1
        return counts

    def _jumps(self) -> list[tuple[str, Element]]:
        return [(name, element) for name in self._base.by_interface for element in self._elements(name)]

    def _read_ports(self) -> dict[str, dict[Place, Element]]:
        ports: dict[str, dict[Place, Element]] = {}
        for name in self._base.by_port:
            for element in self._elements(name):
                ports.setdefault(element.comment, {})[name, element.key] = element
        return ports

    def _elements(self, name: str) -> list[Element]:
        return self._netlink.elements(self._table_family, self._table, name)


def _is_led_to(ruleset: NftRuleset, led: dict[Place, bytes | Verdict | None]) -> bool:
    """Tell whether packets find every chain of the ruleset."""
    return all(
        led.get((chain.map, ifname(chain.interface))) == Verdict("jump", chain.name)
        for chain in ruleset.chains
        if chain.map
    )


def _element(want: NftElement, owner: str) -> Element:
    data = Verdict("jump", want.chain) if want.chain else want.data or None
    return Element(want.key, want.key_end or None, data, owner)


def _only(entry: dict[str, Any]) -> tuple[str, Any]:
    return next(iter(entry.items()))
