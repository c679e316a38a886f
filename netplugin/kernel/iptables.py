"""Rules by iptables and ip6tables: one iptables-restore batch a change, all or nothing per table.

What the kernel has is read once by iptables-save and remembered; the batch of a change is the difference to that. Every
batch takes the jumps out of the built-in chains and puts them in again: if somebody flushed them, the batch fails as a
whole, what is there is read again, and the batch made anew. So the jumps also stay first. Source: iptables-restore(8).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator

from netplugin.kernel.batch import Batch, Rules
from netplugin.resources import Base, Family, Ruleset
from pluginkit.command import run
from pluginkit.errors import CommandError

_PROGRAM: dict[Family, str] = {"ipv4": "iptables", "ipv6": "ip6tables"}
_OWNED = re.compile(r"(PYNET-[A-Z]+)-([ne][0-9A-Za-z]{8})")
_LOCK_WAIT_S = 10
# The owner under which base chains are listed that no network is left to need.
_NOBODY = "nobody"


class Iptables:
    """The rules of one family in this network namespace. The base exists while there is a ruleset."""

    def __init__(self, family: Family, base: Base) -> None:
        self._family = family
        self._base = base
        self._turn = threading.Lock()
        self._remembered: Rules | None = None

    def ensure(self, want: Ruleset) -> None:
        """The chains of the ruleset, and no others of its owner, hold its rules and are reached; so is the base."""
        self._converge(lambda have: self._to_ensure(want, have))

    def remove(self, want: Ruleset) -> None:
        """No chain of the ruleset's owner exists; nor does the base, if that was the last."""
        self._converge(lambda have: self._to_remove(want.owner, have))

    def owned(self) -> Iterable[Ruleset]:
        """Return an empty ruleset for each owner of chains, after a fresh look at what the kernel has."""
        with self._turn:
            self._remembered = self._read()
            owners = {owner for _, _, owner in _owned(self._remembered)}
            if not owners and any(place in self._remembered for place in self._base.chains):
                owners = {_NOBODY}
        return [Ruleset(self._family, owner, ()) for owner in sorted(owners)]

    def _converge(self, change: Callable[[Rules], Batch]) -> None:
        with self._turn:
            fresh = self._remembered is None
            have = self._read() if self._remembered is None else self._remembered
            try:
                self._apply(change(have))
            except CommandError:
                self._remembered = None
                if fresh:
                    raise
                self._apply(change(self._read()))

    def _apply(self, batch: Batch) -> None:
        text = batch.text()
        if text:
            program = f"{_PROGRAM[self._family]}-restore"
            run([program, "--noflush", "--wait", str(_LOCK_WAIT_S)], stdin=text, timeout_s=_LOCK_WAIT_S + 5)
        self._remembered = batch.after

    def _to_ensure(self, want: Ruleset, have: Rules) -> Batch:
        batch = Batch(have)
        wanted = {(chain.jump.table, chain.name) for chain in want.chains}
        stray = [
            (table, name) for table, name, owner in _owned(have) if owner == want.owner and (table, name) not in wanted
        ]
        in_place = all(
            have.get((chain.jump.table, chain.name)) == chain.rules
            and chain.jump.rule in have.get((chain.jump.table, chain.jump.parent), ())
            for chain in want.chains
        )
        if in_place and not stray and self._base_in_place(have):
            return batch
        for table, name in self._base.chains:
            batch.declare(table, name)
        batch.put_first(self._base.jumps)
        self._drop(stray, batch)
        for chain in want.chains:
            batch.fill(chain)
        return batch

    def _to_remove(self, owner: str, have: Rules) -> Batch:
        batch = Batch(have)
        mine = [(table, name) for table, name, whose in _owned(have) if whose == owner]
        if not mine and owner != _NOBODY:
            return batch
        self._drop(mine, batch)
        if any(True for _ in _owned(batch.after)):
            batch.put_first(self._base.jumps)
            return batch
        for table, name in self._base.chains:
            batch.drop_chain(table, name)
        # What is left of them stands in the built-in chains.
        for jump in self._base.jumps:
            batch.drop_rule(jump.table, jump.parent, jump.rule)
        return batch

    def _drop(self, chains: list[tuple[str, str]], batch: Batch) -> None:
        for table, name in chains:
            parent = name.rpartition("-")[0]
            for rule in batch.after.get((table, parent), ()):
                if rule.endswith(f"-j {name}"):
                    batch.drop_rule(table, parent, rule)
            batch.drop_chain(table, name)

    def _base_in_place(self, have: Rules) -> bool:
        expected: Rules = {}
        for jump in self._base.jumps:
            place = (jump.table, jump.parent)
            expected[place] = (*expected.get(place, ()), jump.rule)
        return all(have.get(place, ())[: len(jumps)] == jumps for place, jumps in expected.items())

    def _read(self) -> Rules:
        rules: dict[tuple[str, str], list[str]] = {}
        table = ""
        for line in run([f"{_PROGRAM[self._family]}-save"], timeout_s=_LOCK_WAIT_S + 5).stdout.splitlines():
            if line.startswith("*"):
                table = line[1:]
            elif line.startswith(":"):
                rules[table, line[1:].split(" ", 1)[0]] = []
            elif line.startswith("-A "):
                _, name, rule = line.split(" ", 2)
                known = rules[table, name]
                # Of others' chains only our jumps matter, and whether anything stands before them.
                if name.startswith("PYNET-") or "-j PYNET-" in rule or not known:
                    known.append(rule)
        return {place: tuple(known) for place, known in rules.items()}


def _owned(rules: Rules) -> Iterator[tuple[str, str, str]]:
    """Yield table, chain and owner of each chain that belongs to a network or an endpoint."""
    for table, name in rules:
        match = _OWNED.fullmatch(name)
        if match:
            yield table, name, match[2]
