"""The only double in the project: a kernel that can be struck by an error, or by death, at any step.

A *step* is a moment just before or just after an effect, in the kernel or in the store. `Steps` counts them all and
strikes at the one it was told to.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pluginkit.errors import KernelError
from pluginkit.reconcile import Kernel, Resource

Key = tuple[str, ...]


class Death(BaseException):
    """The process is gone. Not an Exception, because nothing in it can catch that."""


class Steps:
    """A count of steps, and what happens at one of them."""

    def __init__(self) -> None:
        self.taken = 0
        self._strike_at = 0
        self._for_good = False
        self._fatal = False

    def arm(self, step: int, *, fatal: bool, for_good: bool = False) -> None:
        """The `step`th from now is death, or an error; with `for_good` every later one is, too."""
        self.taken, self._strike_at, self._fatal, self._for_good = 0, step, fatal, for_good

    def disarm(self) -> None:
        """Nothing happens any more, and counting starts anew."""
        self.taken = self._strike_at = 0

    def take(self, error: Exception | None) -> None:
        """One more step was taken. `error` is how this place fails when it does not die; None: it cannot fail."""
        self.taken += 1
        if self._strike_at and (self.taken == self._strike_at or (self._for_good and self.taken > self._strike_at)):
            if self._fatal:
                raise Death
            if error is not None:
                raise error


def nothing_needed(resource: Resource) -> Iterable[Key]:
    """The rule for `needs` of a kernel in which nothing depends on anything."""
    return ()


class FakeKernel:
    """All objects of one kernel: ours, which `owned` lists, and foreign ones, which it must never touch.

    needs: the keys of the objects without which an object cannot exist. As in the real one, creating it without them
    fails and so does removing them before it.
    """

    def __init__(self, steps: Steps, needs: Callable[[Any], Iterable[Key]] = nothing_needed) -> None:
        self.objects: dict[Key, Resource] = {}
        self.changes = 0
        self._steps = steps
        self._needs = needs

    def kernels(self, types: Iterable[type[Any]]) -> Mapping[type[Any], Kernel]:
        """Return what a Reconciler takes: for each resource type a kernel that knows only that type."""
        return {kind: _OneType(self, kind) for kind in types}

    def change(self, action: str, resource: Resource, effect: Callable[[], None]) -> None:
        """`effect` has happened, unless something struck before it."""
        error = KernelError(action, " ".join(resource.key), errno.EIO)
        self._steps.take(error)
        before = dict(self.objects)
        effect()
        self.changes += self.objects != before
        self._steps.take(error)

    def ensure(self, want: Resource) -> None:
        """The object is there as wanted."""
        missing = [key for key in self._needs(want) if key not in self.objects]
        if missing:
            raise KernelError("create", f"{want.key} without {missing}", errno.ENODEV)
        self.objects[want.key] = want

    def remove(self, want: Resource) -> None:
        """The object is not there."""
        users = [have.key for have in tuple(self.objects.values()) if want.key in self._needs(have)]
        if users:
            raise KernelError("remove", f"{want.key} in use by {users}", errno.EBUSY)
        self.objects.pop(want.key, None)


class _OneType:
    def __init__(self, everything: FakeKernel, kind: type[Any]) -> None:
        self._everything = everything
        self._kind = kind

    def ensure(self, want: Resource) -> None:
        assert type(want) is self._kind
        self._everything.change("ensure", want, lambda: self._everything.ensure(want))

    def remove(self, want: Resource) -> None:
        assert type(want) is self._kind
        self._everything.change("remove", want, lambda: self._everything.remove(want))

    def owned(self) -> list[Resource]:
        return [have for have in self._everything.objects.values() if type(have) is self._kind]
