"""All containers, in memory and on disk, found by id, name or the beginning of an id."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from runtime.containers.record import Container
from runtime.errors import BadParameter, Conflict, NotFound
from runtime.state import State

_CONTAINER = "container"
_GONE = 1000


class Index:
    """The containers. Whoever changes one takes its turn (`turn`); whoever waits for a change calls `wait_until`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._all = {key: Container(**record) for key, record in state.all(_CONTAINER).items()}
        self._names = {container.name: key for key, container in self._all.items()}
        self._turns: dict[str, threading.RLock] = {}
        self._gone: dict[str, Container] = {}  # the last of them, in order: who waits for the end asks for its code
        self._changed = threading.Condition(threading.RLock())

    def add(self, container: Container) -> None:
        """The container is known, under its name.

        Raises: Conflict: the name is another one's.
        """
        with self._changed:
            self._claim(container)
            self._put(container)

    def change(self, container: Container, **changes: Any) -> Container:
        """The changes are on disk and everybody who waits has been told; return the container as it now is."""
        with self._changed:
            changed = replace(self._all.get(container.id, container), **changes)
            if changed.name != container.name:
                self._claim(changed)
                self._names.pop(container.name, None)
            self._put(changed)
            return changed

    def remove(self, container: Container) -> None:
        """The container is not known any more."""
        with self._changed:
            self._state.delete(_CONTAINER, container.id)
            self._all.pop(container.id, None)
            self._names.pop(container.name, None)
            self._turns.pop(container.id, None)
            self._gone[container.id] = container
            if len(self._gone) > _GONE:
                del self._gone[next(iter(self._gone))]
            self._changed.notify_all()

    def all(self) -> list[Container]:
        """Return all of them, the newest first."""
        with self._changed:
            return sorted(self._all.values(), key=lambda container: container.created, reverse=True)

    def last(self, key: str) -> Container:
        """Return the container with this id as it is, or was when it was removed."""
        return self._all.get(key) or self._gone[key]

    def find(self, key: str) -> Container | None:
        """Return the container with this id, if there is one."""
        return self._all.get(key)

    def get(self, wanted: str) -> Container:
        """Return the container with this id, name, or unambiguous beginning of an id.

        Raises: NotFound, BadParameter.
        """
        name = wanted.removeprefix("/")
        with self._changed:
            key = name if name in self._all else self._names.get(name)
            if key is None:
                found = [candidate for candidate in self._all if name and candidate.startswith(name)]
                if len(found) > 1:
                    raise BadParameter(f"cannot tell which container {wanted} is: {len(found)} ids begin so")
                if not found:
                    raise NotFound(f"No such container: {wanted}")
                key = found[0]
            return self._all[key]

    @contextmanager
    def turn(self, wanted: str) -> Iterator[Container]:
        """Nobody else changes the container meanwhile; it is given as it is at that moment.

        Raises: NotFound, BadParameter.
        """
        key = self.get(wanted).id
        with self._changed:
            turn = self._turns.setdefault(key, threading.RLock())
        with turn:
            yield self.get(key)

    def wait_until(self, holds: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """`holds()` is true, or the time is over; it is asked again after each change."""
        with self._changed:
            return self._changed.wait_for(holds, timeout_s)

    def notify(self) -> None:
        """Who waits asks again."""
        with self._changed:
            self._changed.notify_all()

    def _claim(self, container: Container) -> None:
        owner = self._names.get(container.name)
        if owner is not None and owner != container.id:
            raise Conflict(
                f'Conflict. The container name "/{container.name}" is already in use by container "{owner}". You'
                " have to remove (or rename) that container to be able to reuse that name."
            )

    def _put(self, container: Container) -> None:
        self._state.put(_CONTAINER, container.id, container.record())
        self._all[container.id] = container
        self._names[container.name] = container.id
        self._changed.notify_all()
