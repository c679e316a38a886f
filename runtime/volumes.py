"""Volumes: what drivers keep for containers, asked for as dockerd does. pyrun has no driver of its own.

A driver knows its volumes; remembered here are names with driver and labels, and who has which mounted.
Source: moby volume/service/store.go, volume/mounts/mounts.go.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from runtime.errors import ApiError, BadParameter, Conflict, Failed, NotFound
from runtime.events import Events
from runtime.filters import Filters
from runtime.plugins.registry import Plugins
from runtime.plugins.transport import Refused
from runtime.state import State
from runtime.turns import Turns

CAPABILITY = "VolumeDriver"
DEFAULT_DRIVER = "pyvol"
ANONYMOUS = "com.docker.volume.anonymous"
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")
FILTERS = ("name", "driver", "label", "dangling")


class Volumes:
    """The volumes of all drivers. Threads may share it; two that want the same volume take turns."""

    def __init__(self, state: State, plugins: Plugins, events: Events | None = None) -> None:
        """events: who is told of what happens to volumes."""
        self._state, self._plugins, self._events = state, plugins, events or Events()
        self._turns = Turns()

    def create(self, body: dict[str, Any], users: Iterable[str] = ()) -> dict[str, Any]:
        """The volume is there, by its driver, with the options if it is new; return it as `inspect` does.

        users: containers that are about to refer to it. No one else can remove it from now on.

        Raises: BadParameter; Conflict: another driver has one of that name; Failed: the driver refused.
        """
        name = body.get("Name") or secrets.token_hex(32)
        labels = dict(body.get("Labels") or {}) | ({} if body.get("Name") else {ANONYMOUS: ""})
        if not NAME.fullmatch(name):
            raise BadParameter(
                f"cannot create volume {name!r}: its name may have letters, digits and _.- alone; name it otherwise"
            )
        if body.get("ClusterVolumeSpec"):
            raise BadParameter(f"cannot create volume {name}: there are no cluster volumes; leave the option away")
        wanted = body.get("Driver") or ""
        wanted = "" if wanted == "local" else self._plugins.full_name(wanted)
        with self._turns.of(name):
            record = self._state.get("volume", name)
            driver = wanted or (record["Driver"] if record else self._default(name))
            if record and record["Driver"] != driver and self._get(record["Driver"], name) is not None:
                raise Conflict(
                    f"cannot create volume {name}: a volume with the name {name} already exists with driver"
                    f" {record['Driver']}: volume names must be unique; choose a different one"
                )
            options = {str(key): str(value) for key, value in (body.get("DriverOpts") or {}).items()}
            exists = self._get(driver, name) is not None
            # Unlike dockerd: whether other options are refused, and which those are, only its driver can say.
            if not exists or (options and (record is None or options != record["Options"])):
                self._ask(driver, "Create", f"create volume {name}", Name=name, Opts=options)
            if not exists:
                self._events.tell("volume", "create", name, {"driver": driver})
                record = None
            if record is None or record["Driver"] != driver:
                record = {"Driver": driver, "Labels": labels, "Options": options, "Users": []}
            record["Users"] = sorted({*record["Users"], *users})
            self._state.put("volume", name, record)
            return self._describe(name, record)

    def inspect(self, name: str) -> dict[str, Any]:
        """Return the volume as its driver describes it now.

        Raises: NotFound; Unreachable: its driver is down.
        """
        record = self._find(name)
        return self._describe(name, record)

    def list(self, filters: Filters) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the volumes of all drivers that answer, and a warning for each driver that does not."""
        filters.check("list volumes", FILTERS)
        records, warnings = self._state.all("volume"), []
        found = {}
        for driver in sorted({*self._plugins.implementing(CAPABILITY), *(r["Driver"] for r in records.values())}):
            try:
                for entry in self._ask(driver, "List", "list volumes").get("Volumes") or []:
                    record = records.get(entry["Name"]) or _adopted(driver)
                    if record["Driver"] == driver:
                        found[entry["Name"]] = _view(entry["Name"], record, entry)
            except ApiError as exc:
                warnings.append(str(exc))
                # What is remembered is shown, as long as its driver cannot say otherwise.
                found |= {
                    name: _view(name, record, {}) for name, record in records.items() if record["Driver"] == driver
                }
        used = {name for name, record in records.items() if record["Users"]}
        views = [view for name, view in sorted(found.items()) if _fits(view, name in used, filters)]
        return views, warnings

    def remove(self, name: str, force: bool = False) -> None:
        """The volume and what is in it are gone; with `force` it need not have been there.

        Raises: NotFound; Conflict: a container refers to it; Failed: its driver refused, and with `force` it is known
            only as long as that driver tells of it.
        """
        with self._turns.of(name):
            try:
                record = self._find(name)
            except NotFound:
                if not force:
                    raise
                self._state.delete("volume", name)
                return
            if record["Users"]:
                users = ", ".join(record["Users"])
                raise Conflict(
                    f"cannot remove volume {name}: volume is in use - [{users}]; remove the containers first"
                )
            try:
                self._ask(record["Driver"], "Remove", f"remove volume {name}", Name=name)
            except Failed:
                if force:
                    self._state.delete("volume", name)
                raise
            self._state.delete("volume", name)
            self._events.tell("volume", "destroy", name, {"driver": record["Driver"]})

    def prune(self, filters: Filters) -> dict[str, Any]:
        """No volume is removed: dockerd prunes those of its own driver alone; a plugin's go by name."""
        filters.check("prune volumes", ("label", "label!", "all"))
        self._events.tell("volume", "prune", "", {"reclaimed": "0"})
        return {"VolumesDeleted": [], "SpaceReclaimed": 0}

    def release(self, container: str, remove_anonymous: bool = False) -> None:
        """The container refers to no volume any more; with `remove_anonymous` those without a name are gone if unused.

        Raises: ApiError: the first that failed, after the others were done.
        """
        failure: ApiError | None = None
        for name, record in self._state.all("volume").items():
            if container in record["Users"]:
                with self._turns.of(name):
                    record["Users"].remove(container)
                    self._state.put("volume", name, record)
                try:
                    if remove_anonymous and ANONYMOUS in record["Labels"] and not record["Users"]:
                        self.remove(name)
                except Conflict:
                    continue  # another container has come to it meanwhile
                except ApiError as exc:
                    failure = failure or exc
        if failure:
            raise failure

    def mount(self, name: str, container: str) -> Path:
        """The volume is mounted for the container; return where. Each call needs an `unmount`.

        Raises: NotFound; Failed: its driver refused, and gets no Unmount.
        """
        with self._turns.of(name):
            record = self._find(name)
            key = f"{name}/{container}"
            mounted = self._state.get("mount", key) or {"ID": secrets.token_hex(32), "Count": 0}
            # Remembered first: whatever comes in between, `recover` tells the driver to let go.
            self._state.put("mount", key, {**mounted, "Count": mounted["Count"] + 1, "Driver": record["Driver"]})
            try:
                purpose = f"mount volume {name} for container {container[:12]}"
                answer = self._ask(record["Driver"], "Mount", purpose, Name=name, ID=mounted["ID"])
                place = Path(answer.get("Mountpoint") or "")
                if not place.is_absolute() or not place.is_dir():
                    raise Failed(f"cannot {purpose}: {record['Driver']} named {str(place)!r}, which is no directory")
            except Refused:
                self._forget(key, mounted)
                raise
            self._events.tell("volume", "mount", name, {"container": container, "driver": record["Driver"]})
            return place

    def unmount(self, name: str, container: str) -> None:
        """The driver knows that one mount of the container is over, or will hear of it.

        Raises: Failed: the driver refused; it is told again at the next start.
        """
        with self._turns.of(name):
            key = f"{name}/{container}"
            if mounted := self._state.get("mount", key):
                try:
                    self._plugins.tell(mounted["Driver"], CAPABILITY, "Unmount", {"Name": name, "ID": mounted["ID"]})
                except Refused as exc:
                    raise Failed(f"cannot unmount volume {name}: {exc}") from exc
                self._forget(key, {**mounted, "Count": mounted["Count"] - 1})
                self._events.tell("volume", "unmount", name, {"container": container, "driver": mounted["Driver"]})

    def recover(self, alive: Iterable[str]) -> Sequence[str]:
        """No container but those `alive` has a volume mounted; return what could not be done."""
        living, failures = set(alive), []
        for key, mounted in self._state.all("mount").items():
            name, _, container = key.partition("/")
            try:
                for _ in range(0 if container in living else mounted["Count"]):
                    self.unmount(name, container)
            except ApiError as exc:
                failures.append(str(exc))
        return failures

    def _forget(self, key: str, mounted: dict[str, Any]) -> None:
        if mounted["Count"] > 0:
            self._state.put("mount", key, mounted)
        else:
            self._state.delete("mount", key)

    def _default(self, name: str) -> str:
        drivers = self._plugins.implementing(CAPABILITY)
        if (default := self._plugins.full_name(DEFAULT_DRIVER)) in drivers:
            return default
        known = ", ".join(drivers) or "none"
        raise BadParameter(
            f"cannot create volume {name}: pyrun has no local driver; name one with -d ({known} answers)"
        )

    def _find(self, name: str) -> dict[str, Any]:
        """Return the record of `name`, or one for a volume that a driver has and we have not met."""
        if record := self._state.get("volume", name):
            return record
        for driver in self._plugins.implementing(CAPABILITY):
            if self._get(driver, name) is not None:
                return _adopted(driver)
        raise NotFound(f"cannot find volume {name}: get {name}: no such volume; create it with docker volume create")

    def _get(self, driver: str, name: str) -> dict[str, Any] | None:
        try:
            found = self._ask(driver, "Get", f"look up volume {name}", Name=name).get("Volume")
        except Refused:  # a driver has no other way to say that there is none
            return None
        return found if isinstance(found, dict) and found else None

    def _describe(self, name: str, record: dict[str, Any]) -> dict[str, Any]:
        entry = self._get(record["Driver"], name)
        if entry is None:
            raise NotFound(f"cannot find volume {name}: driver {record['Driver']} has lost it; remove it with -f")
        return _view(name, record, entry)

    def _ask(self, driver: str, method: str, purpose: str, **body: Any) -> dict[str, Any]:
        try:
            answer = self._plugins.call(driver, CAPABILITY, method, body)
        except Refused as exc:
            raise type(exc)(f"cannot {purpose}: {exc}") from exc
        for part in (answer, answer.get("Volume"), *(answer.get("Volumes") or [])):
            if isinstance(part, dict) and "Mountpoint" in part:
                part["Mountpoint"] = self._plugins.on_host(driver, str(part["Mountpoint"] or ""))
        return answer


def _adopted(driver: str) -> dict[str, Any]:
    return {"Driver": driver, "Labels": {}, "Options": {}, "Users": []}


def _view(name: str, record: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    view = {
        "CreatedAt": entry.get("CreatedAt", ""), "Driver": record["Driver"], "Labels": record["Labels"],
        "Mountpoint": entry.get("Mountpoint", ""), "Name": name, "Options": record["Options"], "Scope": "local",
    }  # fmt: skip
    return view | ({"Status": entry["Status"]} if entry.get("Status") else {})


def _fits(view: dict[str, Any], used: bool, filters: Filters) -> bool:
    return (
        filters.names(view["Name"])
        and filters.some("driver", lambda driver: driver == view["Driver"])
        and filters.labels(view["Labels"])
        and filters.some("dangling", lambda word: (word in ("true", "1")) != used)
    )
