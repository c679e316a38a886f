"""One change of the rules, written as input of iptables-restore."""

from __future__ import annotations

from collections.abc import Sequence

from netplugin.resources import BaseChain, Chain, Jump

Place = tuple[str, str]
# Rules by table and chain, in the words of iptables-save without the leading "-A CHAIN".
Rules = dict[Place, tuple[str, ...]]
_USER = "-j DOCKER-USER"


class Batch:
    """A change under construction, from `have` to `after`."""

    def __init__(self, have: Rules) -> None:
        self.after: Rules = dict(have)
        self._have = have
        self._touched: dict[Place, None] = {}
        self._refilled: set[Place] = set()
        self._heads: dict[Place, str] = {}

    def declare(self, chain: BaseChain) -> None:
        """The chain exists; its rules are its own, or what they were if it has none of its own."""
        place = (chain.table, chain.name)
        if place not in self.after or chain.rules not in (None, self.after[place]):
            self._set(place, chain.rules or ())
            self._refilled.add(place)

    def fill(self, chain: Chain) -> None:
        """The chain has its rules and no others, and its parent jumps to it."""
        place, parent = (chain.jump.table, chain.name), (chain.jump.table, chain.jump.parent)
        self._set(place, chain.rules)
        self._refilled.add(place)
        jumps = self.after.get(parent, ())
        if chain.jump.rule not in jumps:
            self._set(parent, (*jumps, chain.jump.rule))

    def put_first(self, jumps: Sequence[Jump]) -> None:
        """The jumps stand at the heads of their parents, one in each. Applying fails if one of `have` has vanished."""
        for jump in jumps:
            place = (jump.table, jump.parent)
            self._heads[place] = jump.rule
            others = [rule for rule in self.after.get(place, ()) if rule != jump.rule]
            others.insert(_position(others), jump.rule)
            self._set(place, tuple(others))

    def drop_rule(self, table: str, chain: str, rule: str) -> None:
        """The chain, if it exists, does not have the rule."""
        rules = self.after.get((table, chain), ())
        if rule in rules:
            self._set((table, chain), tuple(other for other in rules if other != rule))

    def drop_chain(self, table: str, name: str) -> None:
        """The chain does not exist. Nothing may jump to it any more."""
        if self.after.pop((table, name), None) is not None:
            self._touched[table, name] = None

    def text(self) -> str:
        """Return the input of iptables-restore --noflush; "" if nothing changes."""
        lines: dict[str, tuple[list[str], list[str], list[str]]] = {}
        # Each table is a commit of its own: what accepts comes after what drops.
        for place in sorted(self._touched, key=lambda place: place[0] == "filter"):
            table, _ = place
            parts = lines.setdefault(table, ([], [], []))
            for part, more in zip(parts, self._lines(place), strict=True):
                part += more
        return "".join(
            "\n".join([f"*{table}", *declared, *changed, *deleted, "COMMIT", ""])
            for table, (declared, changed, deleted) in lines.items()
        )

    def _lines(self, place: Place) -> tuple[list[str], list[str], list[str]]:
        """Return what to declare (which empties what exists), to change, and to delete at the end, for one chain.

        Deletions come last in a table: iptables-nft 1.8.9 finds a chain busy whose jump is deleted after another chain.
        """
        _, name = place
        old, new = self._have.get(place), self.after.get(place)
        declaration = [f":{name} - [0:0]"]
        if new is None:
            return (declaration, [], [f"-X {name}"]) if old is not None else ([], [], [])
        if old is None or place in self._refilled:
            return declaration, [f"-A {name} {rule}" for rule in new], []
        head = self._heads.get(place)
        gone, come = set(old).difference(new), set(new).difference(old)
        changes = [f"-D {name} {rule}" for rule in old if rule in gone or rule == head]
        if head is not None:
            changes.append(f"-I {name} {new.index(head) + 1} {head}")
        changes += [f"-A {name} {rule}" for rule in new if rule in come and rule != head]
        return [], changes, []

    def _set(self, place: Place, rules: tuple[str, ...]) -> None:
        self.after[place] = rules
        self._touched[place] = None


def is_first(rule: str, rules: Sequence[str]) -> bool:
    """Tell whether `rule` stands where `put_first` would put it."""
    return rule in rules and rules.index(rule) == _position([other for other in rules if other != rule])


def _position(others: Sequence[str]) -> int:
    """Return our place among `others`: first, or right behind the administrator's word, where Docker keeps it."""
    return others.index(_USER) + 1 if _USER in others else 0
