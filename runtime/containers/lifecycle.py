"""Containers from `create` to `rm`. Whatever ends one, a command or its own process, comes by `_ended`."""

from __future__ import annotations

import logging
import secrets
import signal
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from socket import socket
from typing import Any

from runtime.containers import record, request
from runtime.containers.bundles import Bundles
from runtime.containers.index import Index
from runtime.containers.mounts import parse_mounts
from runtime.containers.record import EXITED, LOST, PAUSED, RESTARTING, RUNNING, Container
from runtime.containers.sandboxes import NONE, Sandboxes, published
from runtime.containers.spec import Place, signal_number, specification
from runtime.containers.users import find_user
from runtime.errors import ApiError, BadParameter, Conflict, Failed
from runtime.events import Events
from runtime.exits import Exits, later, pause_s
from runtime.images.store import Images
from runtime.process import Processes, exit_code

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10
_KILL_TIMEOUT_S = _RESTART_TIMEOUT_S = 20.0


class Containers:
    """All containers of this daemon."""

    def __init__(self, index: Index, images: Images, bundles: Bundles, sandboxes: Sandboxes, processes: Processes,
                 events: Events) -> None:  # fmt: skip
        self.index, self.images, self.bundles, self.sandboxes = index, images, bundles, sandboxes
        self.processes, self.events = processes, events
        self.exits = Exits()
        self._waiting: dict[str, list[Future[socket]]] = {}
        self._ending = False

    def create(self, name: str, body: Mapping[str, Any]) -> Container:
        """The container exists; nothing runs.

        Raises: NotFound: no such image or network; Conflict: the name is taken; BadParameter, Unsupported.
        """
        image = self.images.get(str(body.get("Image") or ""))
        config, host = request.parse_config(body, image), request.parse_host(body)
        wishes = self.sandboxes.check(host, host.get("PortBindings") or {}, request.parse_wishes(body, host))
        key = secrets.token_hex(32)
        container = Container(
            key, request.parse_name(name) if name else f"pyrun-{key[:12]}", record.now(), image.id, image.layers,
            config, host, wishes,
        )  # fmt: skip
        # What can be wrong with the options is found here, not at the start.
        specification(container, Place(Path(), Path(), None, "", []), find_user(Path("/nonexistent"), "0", []))
        signal_number(config["StopSignal"] or signal.SIGTERM)
        points = parse_mounts(config, host, self.index.get)
        self.index.add(container)
        try:
            container = self.index.change(container, mounts=self.bundles.create(container, points))
            self.bundles.fill_volumes(container)
            container = self.index.change(container, status=record.CREATED)
        except BaseException:
            self._discard(container, remove_anonymous=True)
            raise
        self._tell("create", container)
        return container

    def start(self, wanted: str) -> bool:
        """The container runs; return False if it did already.

        Raises: Conflict: it is paused; Failed: with the reason of runc, a plugin or the kernel, and nothing is left.
        """
        with self.index.turn(wanted) as container:
            if container.status == PAUSED:
                raise Conflict("cannot start a paused container, try unpause instead")
            if container.alive:
                return False
            if container.status in (record.CREATING, record.REMOVING):
                raise Conflict(f"cannot start container {wanted}: it is {container.status}")
            try:
                self._start(self.index.change(container, stopped=False, restarts=0))
            except BaseException:
                if container.host.get("AutoRemove"):
                    self._discard(self.index.get(container.id), remove_anonymous=True)
                raise
            return True

    def _start(self, container: Container) -> None:
        shim = self.bundles.shim(container)
        try:
            pid = self.bundles.launch(container)
            for attachment in self._waiting.pop(container.id, []):
                attachment.set_result(shim.attach())
            # Known to run before it does: a daemon that dies between the two finds it and its conmon.
            container = self.index.change(
                container, status=RUNNING, pid=pid, started=record.now(), error="", oom_killed=False
            )
            self.processes.start(container.id)
        except BaseException as exc:
            self.bundles.release(container)
            self.index.change(container, status=record.CREATED if container.started == record.NEVER else EXITED,
                              exit_code=exit_code(exc), error=str(exc), pid=0)  # fmt: skip
            raise
        self.exits.watch(shim.conmon_pid(), lambda: self._ended(container.id))
        self._tell("start", container)

    def _ended(self, key: str) -> None:
        """The process is gone: so is what it used, and its policy says whether it starts again."""
        found = self.index.find(key)
        if found is None:
            return
        with self.index.turn(key) as container:
            if not container.alive or self.bundles.shim(container).conmon_pid() is not None:
                return
            code = self.bundles.shim(container).exit_code()
            oom = (self.bundles.shim(container).folder / "oom").exists()
            self.bundles.release(container)
            again = self._starts_again(container, LOST if code is None else code)
            container = self.index.change(
                container, status=RESTARTING if again else EXITED, exit_code=LOST if code is None else code,
                finished=record.now(), pid=0, oom_killed=oom, restarts=container.restarts + again,
            )  # fmt: skip
            self._tell("die", container, exitCode=str(container.exit_code))
        if self._ending:
            return
        if again:
            later(pause_s(container.restarts), self._start_again, key)
        elif container.host.get("AutoRemove"):
            self.remove(key, volumes=True)

    def _starts_again(self, container: Container, code: int) -> bool:
        policy = container.host["RestartPolicy"]
        if container.stopped:
            return False
        if policy["Name"] == "on-failure":
            return code != 0 and (policy["MaximumRetryCount"] == 0 or container.restarts < policy["MaximumRetryCount"])
        return policy["Name"] in ("always", "unless-stopped")

    def _start_again(self, key: str) -> None:
        if self.index.find(key) is None:
            return
        with self.index.turn(key) as container:
            if container.status != RESTARTING or self._ending:
                return
            try:
                self._start(container)
            except ApiError:
                log.exception("restart of %s", container.name)

    def end_all(self) -> None:
        """Nothing runs any more. What its policy starts again is started by the next daemon, as after a reboot."""
        self._ending = True
        alive = [container.id for container in self.index.all() if container.alive]
        with ThreadPoolExecutor(max(1, len(alive))) as pool:
            for ended in [pool.submit(self.stop, key, for_good=False) for key in alive]:
                if failure := ended.exception():
                    log.warning("%s", failure)

    def end_left(self) -> None:
        """Nothing runs that a killed daemon has left. What its policy starts again is left to `recover`."""
        for container in self.index.all():
            if container.alive:
                self.exits.watch(self.bundles.shim(container).conmon_pid(), partial(self._ended, container.id))
        self.end_all()
        self._ending = False

    def stop(self, wanted: str, timeout_s: int | None = None, name: str = "", *, for_good: bool = True) -> bool:
        """Nothing of the container runs; return False if nothing did. for_good: unless-stopped does not start it again.

        Raises: Failed: its process outlived SIGKILL, or a plugin keeps what it had from being given back.
        """
        with self.index.turn(wanted) as container:
            if for_good:
                self.index.change(container, stopped=True)
                if container.status == RESTARTING:
                    self.index.change(container, status=EXITED)
            if not container.alive:
                return container.status == RESTARTING
            number = signal_number(name or container.config["StopSignal"] or signal.SIGTERM)
            if container.status == PAUSED:
                self.pause(wanted, paused=False)
            self._signal(container, number)
        if timeout_s is None:
            told = container.config.get("StopTimeout")
            timeout_s = STOP_TIMEOUT_S if told is None else int(told)
        if not self._has_ended(container, None if timeout_s < 0 else timeout_s):
            self._signal(container, signal.SIGKILL)
            if not self._has_ended(container, _KILL_TIMEOUT_S):
                raise Failed(f"cannot stop {container.name}: {self.bundles.delay(container)}")
        self._tell("stop", container)
        return True

    def _has_ended(self, container: Container, timeout_s: float | None) -> bool:
        def ended() -> bool:
            found = self.index.find(container.id)
            return found is None or not found.alive or found.started != container.started

        return self.index.wait_until(ended, timeout_s)

    def kill(self, wanted: str, name: str) -> None:
        """The process was sent the signal; after SIGKILL it is gone.

        Raises: Conflict: it does not run; BadParameter.
        """
        try:
            number = signal_number(name or signal.SIGKILL)
        except BadParameter as exc:
            raise BadParameter(f"cannot kill container: {wanted}: {exc}") from exc
        with self.index.turn(wanted) as container:
            if not container.alive:
                raise Conflict(f"cannot kill container: {wanted}: container {container.id} is not running")
            if number in (signal.SIGKILL, signal_number(container.config["StopSignal"] or signal.SIGTERM)):
                self.index.change(container, stopped=True)
            self._signal(container, number)
        self._tell("kill", container, signal=str(number))
        if number == signal.SIGKILL:
            self._has_ended(container, _KILL_TIMEOUT_S)

    def _signal(self, container: Container, number: int) -> None:
        try:
            self.processes.signal(container.id, number)
        except Failed:
            # It may have ended a moment ago, which is what was wanted.
            if (
                self.bundles.shim(container).conmon_pid() is not None
                and self.bundles.shim(container).exit_code() is None
            ):
                raise

    def pause(self, wanted: str, paused: bool) -> None:
        """Its processes stand still, or go on.

        Raises: Conflict: they do so already, or there are none.
        """
        with self.index.turn(wanted) as container:
            if container.status != (RUNNING if paused else PAUSED):
                wrong = "already paused" if container.status == PAUSED else f"not {'running' if paused else 'paused'}"
                raise Conflict(f"Container {container.id} is {wrong}")
            self.processes.pause(container.id, paused)
            self._tell(
                "pause" if paused else "unpause", self.index.change(container, status=PAUSED if paused else RUNNING)
            )

    def rename(self, wanted: str, name: str) -> None:
        """It has the name.

        Raises: Conflict: another one has; BadParameter: it has it already.
        """
        with self.index.turn(wanted) as container:
            if name.removeprefix("/") == container.name:
                raise BadParameter("Renaming a container with the same name as its current name")
            renamed = self.index.change(container, name=request.parse_name(name))
            self.sandboxes.networks.rename(container.id, renamed.name)
            self._tell("rename", renamed, oldName=container.name)

    def connect(self, wanted: str, network: str, wish: dict[str, Any]) -> None:
        """The container is in the network, at once if it runs, and at each start.

        Raises: BadParameter: its namespace is not its own, or it is in none; what the networks raise.
        """
        with self.index.turn(wanted) as container:
            target = self.sandboxes.target(container)
            name = str(self.sandboxes.networks.inspect(network)["Name"])
            self.sandboxes.check_another(container, name)
            if container.alive and name != NONE:
                self.sandboxes.networks.connect(name, target, wish, published(container))
            elif name != NONE:
                self.sandboxes.networks.check({name: wish}, {})
            self.index.change(container, networks={**container.networks, name: wish})

    def disconnect(self, wanted: str, network: str, force: bool) -> None:
        """The container is not in the network, now and at each start.

        Raises: NotFound; what the networks raise.
        """
        with self.index.turn(wanted) as container:
            self.sandboxes.target(container)
            name = str(self.sandboxes.networks.inspect(network)["Name"])
            if name not in container.networks and not force:
                raise Conflict(f"container {container.id} is not connected to network {name}")
            if container.alive and name != NONE:
                self.sandboxes.networks.disconnect(name, container.id, force)
            self.index.change(
                container, networks={key: each for key, each in container.networks.items() if key != name}
            )

    def remove(self, wanted: str, force: bool = False, volumes: bool = False) -> None:
        """Nothing is left of the container; volumes without a name go when asked.

        Raises: Conflict: it runs, and `force` is not given.
        """
        container = self.index.get(wanted)
        if (container.alive or container.status == RESTARTING) and not force:
            raise Conflict(
                f'cannot remove container "{wanted}": container is {container.status}: stop the container before'
                " removing or force remove"
            )
        if container.status == PAUSED:
            self.pause(container.id, paused=False)
        if container.alive or container.status == RESTARTING:
            self.stop(container.id, timeout_s=0, name="KILL")
        if self.index.find(container.id) is None:
            return
        with self.index.turn(container.id) as container:
            self._discard(container, remove_anonymous=volumes)
        self._tell("destroy", container)

    def attach(self, wanted: str) -> tuple[Container, Future[socket]]:
        """Return the container and its streams; the future waits for it to start.

        Raises: Conflict: it is paused.
        """
        with self.index.turn(wanted) as container:
            if container.status == PAUSED:
                raise Conflict("cannot attach to a paused container, unpause the container and try again")
            attachment: Future[socket] = Future()
            if container.alive:
                attachment.set_result(self.bundles.shim(container).attach())
            else:
                self._waiting.setdefault(container.id, []).append(attachment)
            return container, attachment

    def running(self, wanted: str) -> Container:
        """Return the container, which runs.

        Raises: Conflict: it does not.
        """
        container = self.index.get(wanted)
        if not container.alive:
            raise Conflict(f"container {container.id} is not running")
        if container.status == PAUSED:
            raise Conflict(f"Container {container.name} is paused, unpause the container before exec")
        return container

    def alive(self) -> list[str]:
        """Return the ids of the containers that were running and have a process still."""
        return [each.id for each in self.index.all() if each.alive and self.bundles.shim(each).conmon_pid() is not None]

    def recover(self) -> None:
        """Every container is as its process is. Policies start what was to run, after a reboot too."""
        again: list[threading.Thread] = []
        for container in self.index.all():
            pid = self.bundles.shim(container).conmon_pid()
            if container.alive:
                if pid is not None:
                    self.processes.start_created(container.id)
                self.exits.watch(pid, partial(self._ended, container.id))
                continue
            if container.status in (record.CREATING, record.REMOVING):
                # Volumes without a name stay when it is not known whether they were to go.
                anonymous = container.status == record.CREATING or bool(container.host.get("AutoRemove"))
                self._discard(container, remove_anonymous=anonymous)
                continue
            # A daemon that died inside `start` or `rm` has left what nobody was told of.
            self.bundles.release(container)
            if container.status == EXITED and container.host["RestartPolicy"]["Name"] == "always":
                # Even what somebody has stopped: that is how it differs from unless-stopped.
                container = self.index.change(container, status=RESTARTING)
            if container.status == RESTARTING:
                again.append(threading.Thread(target=self._start_again, args=(container.id,), daemon=True))
                again[-1].start()
            elif container.host.get("AutoRemove") and container.started != record.NEVER:
                self.remove(container.id, volumes=True)
        # As with dockerd, whoever is answered finds them running, unless a plugin keeps them waiting.
        deadline = time.monotonic() + _RESTART_TIMEOUT_S
        for thread in again:
            thread.join(max(0.0, deadline - time.monotonic()))

    def networks(self, container: Container) -> dict[str, Any]:
        """Return NetworkSettings.Networks: what it has while it runs, otherwise what it wants."""
        wishes = {name: self.sandboxes.networks.unplugged(name, wish) for name, wish in container.networks.items()}
        return {**wishes, **(self.sandboxes.networks.settings(container.id) if container.alive else {})}

    def ports(self, container: Container) -> dict[str, Any]:
        """Return its exposed ports, and where they are published while it runs."""
        exposed: dict[str, Any] = dict.fromkeys(container.config["ExposedPorts"])
        return exposed | self.sandboxes.networks.port_map(container.id) if container.alive else {}

    def _discard(self, container: Container, *, remove_anonymous: bool) -> None:
        for attachment in self._waiting.pop(container.id, []):
            attachment.cancel()
        # Known first: what a dead daemon has begun to remove, the next one removes. Removing makes room on a full disk.
        with suppress(Failed):
            container = self.index.change(container, status=record.REMOVING)
        self.bundles.erase(container, remove_anonymous)
        self.index.remove(container)

    def _tell(self, action: str, container: Container, **more: str) -> None:
        labels = {str(key): str(value) for key, value in (container.config.get("Labels") or {}).items()}
        attributes = {**labels, "image": str(container.config.get("Image")), "name": container.name, **more}
        self.events.tell("container", action, container.id, attributes)
