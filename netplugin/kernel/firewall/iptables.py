"""Rules by iptables and ip6tables: one iptables-restore batch a change, all or nothing per table.

What the kernel has is read once by iptables-save and remembered; the batch of a change is the difference to that. Every
batch takes the jumps out of the built-in chains and puts them in again: if somebody flushed them, the batch fails as a
whole, what is there is read again, and the batch made anew. So the jumps also stay first. Source: iptables-restore(8).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

from netplugin.kernel.firewall.activity import Activity
from netplugin.kernel.firewall.batch import Batch, Place, Rules, is_first
from netplugin.resources import Base, Family, Ruleset
from pluginkit.command import run
from pluginkit.errors import CommandError

_PROGRAM: dict[Family, str] = {"ipv4": "iptables", "ipv6": "ip6tables"}
_OWNED = re.compile(r"(PYNET-[A-Z]+)-([ne][0-9A-Za-z]{8})")
_LOCK_WAIT_S = 10
_FORWARD = ("filter", "FORWARD")
# The owner under which base chains are listed that no network is left to need.
_NOBODY = "nobody"


class _Look:
    """What the kernel has, sorted. shared: the chains of ours that are no network's or endpoint's."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.shared: list[Place] = []
        self._of: dict[str, list[Place]] = {}
        for place in rules:
            if match := _OWNED.fullmatch(place[1]):
                self._of.setdefault(match[2], []).append(place)
            elif place[1].startswith("PYNET-"):
                self.shared.append(place)

    @property
    def owners(self) -> AbstractSet[str]:
        """Whoever has chains."""
        return self._of.keys()

    def of(self, owner: str) -> list[Place]:
        """Return table and name of each chain that belongs to a network or an endpoint."""
        return self._of.get(owner, [])


class Iptables:
    """The rules of one family in this network namespace. The base exists while there is a ruleset."""

    def __init__(self, family: Family, base: Base, activity: Activity) -> None:
        self._family = family
        self._base = base
        self._activity = activity
        self._turn = threading.Lock()
        self._remembered: _Look | None = None

    def ensure(self, want: Ruleset) -> None:
        """The chains of the ruleset, and no others of its owner, hold its rules and are reached; so is the base."""
        self._converge(lambda have: self._to_ensure(want, have))

    def remove(self, want: Ruleset) -> None:
        """No chain of the ruleset's owner exists; nor does the base, if that was the last."""
        self._converge(lambda have: self._to_remove(want.owner, have))

    def owned(self) -> Iterable[Ruleset]:
        """Return an empty ruleset for each owner of chains, after a fresh look at what the kernel has."""
        with self._turn:
            self._remembered = look = self._read()
            owners = look.owners or ({_NOBODY} if look.shared else ())
        return [Ruleset(self._family, owner, ()) for owner in sorted(owners)]

    def is_damaged(self) -> bool:
        """Tell whether FORWARD does not lead to ours any more, or to others first.

        Raises: CommandError: it could not be read.
        """
        with self._turn:
            if self._remembered is None or not self._remembered.owners:
                return False
            jumps = [jump for jump in self._base.jumps if jump.parent == _FORWARD[1]]
            return not all(is_first(jump.rule, self._read_forward(jump.table)) for jump in jumps)

    def _converge(self, change: Callable[[_Look], Batch | None]) -> None:
        with self._turn:
            fresh = self._remembered is None
            look = self._remembered if self._remembered is not None else self._read()
            try:
                batch = change(look)
                if batch is not None and not fresh:
                    # Where ours stand among the rules of others, who tell nobody, is looked at anew each time.
                    look = _Look({**look.rules, _FORWARD: self._read_forward(_FORWARD[0])})
                    batch = change(look)
                self._apply(batch, look)
            except CommandError:
                self._remembered = None
                if fresh:
                    raise
                look = self._read()
                self._apply(change(look), look)

    def _apply(self, batch: Batch | None, look: _Look) -> None:
        """The change of what was seen is made, and what there is now is remembered."""
        if batch is not None and (text := batch.text()):
            program = f"{_PROGRAM[self._family]}-restore"
            argv = [program, "--noflush", "--wait", str(_LOCK_WAIT_S)]
            run(argv, stdin=text, timeout_s=_LOCK_WAIT_S + 5, started=self._activity.mark)
            look = _Look(batch.after)
        self._remembered = look

    def _to_ensure(self, want: Ruleset, look: _Look) -> Batch | None:
        """Return the change, None if there is none."""
        have = look.rules
        wanted = {(chain.jump.table, chain.name) for chain in want.chains}
        stray = [place for place in look.of(want.owner) if place not in wanted] + self._foreign_base(look)
        in_place = all(
            have.get((chain.jump.table, chain.name)) == chain.rules
            and chain.jump.rule in have.get((chain.jump.table, chain.jump.parent), ())
            for chain in want.chains
        )
        if in_place and not stray and self._base_in_place(have):
            return None
        batch = Batch(have)
        for chain in self._base.chains:
            batch.declare(chain)
        batch.put_first(self._base.jumps)
        _drop(stray, batch)
        for own in want.chains:
            batch.fill(own)
        return batch

    def _to_remove(self, owner: str, look: _Look) -> Batch | None:
        """Return the change, None if there is none."""
        mine = look.of(owner)
        if not mine and owner != _NOBODY:
            return None
        batch = Batch(look.rules)
        _drop(mine, batch)
        if look.owners - {owner}:
            batch.put_first(self._base.jumps)
        else:
            _drop([place for place in batch.after if place[1].startswith("PYNET-")], batch)
        return batch

    def _foreign_base(self, look: _Look) -> list[Place]:
        """Return the base chains of another backend or version, which nothing needs any more."""
        base = {(chain.table, chain.name) for chain in self._base.chains}
        return [place for place in look.shared if place not in base]

    def _base_in_place(self, have: Rules) -> bool:
        chains = all(
            chain.rules in (None, have[chain.table, chain.name])
            for chain in self._base.chains
            if (chain.table, chain.name) in have
        )
        jumps = all(is_first(jump.rule, have.get((jump.table, jump.parent), ())) for jump in self._base.jumps)
        return chains and jumps and all((chain.table, chain.name) in have for chain in self._base.chains)

    def _read_forward(self, table: str) -> tuple[str, ...]:
        argv = [_PROGRAM[self._family], "--wait", str(_LOCK_WAIT_S), "-t", table, "-S", "FORWARD"]
        known: list[str] = []
        for line in run(argv, timeout_s=_LOCK_WAIT_S + 5).stdout.splitlines():
            if line.startswith("-A "):
                _note(line.split(" ", 2)[2], known, (table, "FORWARD"))
        return tuple(known)

    def _read(self) -> _Look:
        rules: dict[tuple[str, str], list[str]] = {}
        table = ""
        for line in run([f"{_PROGRAM[self._family]}-save"], timeout_s=_LOCK_WAIT_S + 5).stdout.splitlines():
            if line.startswith("*"):
                table = line[1:]
            elif line.startswith(":"):
                rules[table, line[1:].split(" ", 1)[0]] = []
            elif line.startswith("-A "):
                _, name, rule = line.split(" ", 2)
                if name.startswith("PYNET-"):
                    rules[table, name].append(rule)
                else:
                    _note(rule, rules[table, name], (table, name))
        return _Look({place: tuple(known) for place, known in rules.items()})


def _note(rule: str, known: list[str], place: Place) -> None:
    """Of others' chains only our jumps are known, and whether they stand first; of FORWARD, where it counts, all."""
    if place == _FORWARD or "-j PYNET-" in rule or len(known) < 2:
        known.append(rule)


def _drop(chains: Iterable[tuple[str, str]], batch: Batch) -> None:
    """The chains do not exist, and nothing jumps to them."""
    gone = set(chains)
    for place in gone:
        batch.drop_chain(*place)
    for table, parent in list(batch.after):
        for rule in batch.after[table, parent]:
            if (table, rule.rpartition("-j ")[2]) in gone:
                batch.drop_rule(table, parent, rule)
