"""`docker exec`: further processes in a container, each below a conmon of its own."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from socket import socket
from typing import Any

from runtime.containers import spec
from runtime.containers.lifecycle import Containers
from runtime.containers.record import LOST, Container
from runtime.containers.users import find_user
from runtime.errors import BadParameter, Conflict, NotFound
from runtime.process import Shim, exit_code

_KEPT = 1000
_START_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Session:
    """One exec. exit_code: None until it has ended."""

    id: str
    container: str
    config: Mapping[str, Any]
    running: bool = False
    started: bool = False
    exit_code: int | None = None
    pid: int = 0


class Sessions:
    """The execs of this daemon's life; an earlier daemon's are known to nobody, as with dockerd."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._all: dict[str, Session] = {}
        self._turn = threading.RLock()

    def create(self, wanted: str, config: Mapping[str, Any]) -> Session:
        """The exec is known; nothing runs yet.

        Raises: NotFound, Conflict: the container does not run; BadParameter: it has no command.
        """
        container = self._containers.running(wanted)
        if not config.get("Cmd"):
            raise BadParameter("No exec command specified")
        session = Session(secrets.token_hex(32), container.id, config)
        with self._turn:
            self._all[session.id] = session
            ended = [key for key, each in self._all.items() if each.exit_code is not None]
            for key in ended[: max(0, len(self._all) - _KEPT)]:
                del self._all[key]
        return session

    def get(self, key: str) -> Session:
        """Return the exec.

        Raises: NotFound.
        """
        try:
            return self._all[key]
        except KeyError as exc:
            raise NotFound(f"No such exec instance: {key}") from exc

    def shim(self, session: Session) -> Shim:
        """Return its conmon."""
        container = self._containers.index.get(session.container)
        folder = self._containers.bundles.shim(container).folder / "exec" / session.id[:16]
        return Shim(session.container, folder, session=session.id)

    def claim(self, key: str) -> Session:
        """The exec is the caller's to start; return it.

        Raises: NotFound; Conflict: it is another's, or the container does not run.
        """
        with self._turn:
            session = self.get(key)
            self._containers.running(session.container)
            if session.started:
                raise Conflict(f"cannot start exec {key}: it was started before; create another one")
            self._all[key] = session = replace(session, started=True)
            return session

    def running(self, key: str) -> Session:
        """Return the exec, which runs, or has been given some seconds to.

        Raises: NotFound; Conflict: it does not.
        """

        def settled() -> bool:
            session = self.get(key)
            return session.running or session.exit_code is not None

        self._containers.index.wait_until(settled, _START_TIMEOUT_S)
        if not self.get(key).running:
            raise Conflict(f"exec process {key} is not running")
        return self.get(key)

    def start(self, session: Session, *, attached: bool, size: list[int] | None = None) -> socket | None:
        """The process of the claimed exec runs; return its streams if attached.

        Raises: ApiError: the container does not run any more; Failed with what runc said.
        """
        key = session.id
        shim = self.shim(session)
        found: list[socket] = []
        attach: Callable[[], None] | None = None if not attached else lambda: found.append(shim.attach())
        try:
            content = self._process(session, self._containers.running(session.container))
            if size and content["terminal"]:
                content["consoleSize"] = {"height": size[0], "width": size[1]}
            pid = self._containers.processes.execute(shim, content, bool(session.config.get("AttachStdin")), attach)
        except BaseException as exc:
            self._all[key] = replace(session, exit_code=exit_code(exc))
            for connection in found:
                connection.close()
            shutil.rmtree(shim.folder, ignore_errors=True)
            raise
        self._all[key] = replace(session, running=True, pid=pid)
        self._containers.index.notify()
        self._containers.exits.watch(shim.conmon_pid(), lambda: self._ended(key, shim))
        return found[0] if found else None

    def finish(self, key: str) -> None:
        """The exec has ended: whoever asks next is told its exit code."""
        self._containers.index.wait_until(lambda: not self._all[key].running, 5.0)

    def _ended(self, key: str, shim: Shim) -> None:
        code = shim.exit_code()
        self._all[key] = replace(self._all[key], running=False, pid=0, exit_code=LOST if code is None else code)
        self._containers.index.notify()
        shutil.rmtree(shim.folder, ignore_errors=True)

    def _process(self, session: Session, container: Container) -> dict[str, Any]:
        config = session.config
        # Whoever says no user is the container's.
        asked = str(config.get("User") or container.config["User"])
        user = find_user(self._containers.bundles.rootfs(container), asked, container.host.get("GroupAdd") or [])
        return spec.process(
            container, [str(word) for word in config["Cmd"]], user, terminal=bool(config.get("Tty")),
            extra=list(config.get("Env") or []), folder=str(config.get("WorkingDir") or ""),
            privileged=bool(config.get("Privileged")),
        )  # fmt: skip
