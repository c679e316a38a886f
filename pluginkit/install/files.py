"""What `install` does, step by step, and `uninstall`. A step says what it does, so that a dry run is the same list."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pluginkit import command
from pluginkit.errors import PluginError

_SYSTEMD_RUNS = Path("/run/systemd/system")
_SYSTEMCTL_TIMEOUT_S = 90.0

Step = tuple[str, Callable[[], object]]


@dataclass(frozen=True)
class Installation:
    """A plugin on a host, or below the directory that is to become one's root.

    units: file name → text, sockets first. configuration: the sample. unit_dir, program: as the host will see them.
    """

    name: str
    units: dict[str, str]
    configuration: str
    root: Path
    unit_dir: Path
    program: Path

    @property
    def configuration_file(self) -> Path:
        """Where the settings are."""
        return self._below(Path("/etc") / self.name / f"{self.name}.toml")

    @property
    def state_dir(self) -> Path:
        """Where the records are."""
        return self._below(Path("/var/lib") / self.name)

    def unit_files(self) -> dict[Path, str]:
        """Return the units by their path; they start the program that does the installing."""
        return {
            self._below(self.unit_dir / unit): text.replace(f"\nExecStart={self.name} ", f"\nExecStart={self.program} ")
            for unit, text in self.units.items()
        }

    def reaches_systemd(self) -> bool:
        """Return whether it is the running system's own root, and systemd runs that."""
        return self.root == Path("/") and _SYSTEMD_RUNS.is_dir()

    def _below(self, path: Path) -> Path:
        return self.root / path.relative_to("/")


def install(wanted: Installation) -> Iterator[Step]:
    """Yield the steps after which the plugin runs, now and after each boot. Repeating them is an upgrade."""
    for path, text in wanted.unit_files().items():
        yield f"write {path}", partial(_write, path, text)
    if wanted.configuration_file.exists():
        yield f"keep {wanted.configuration_file}", lambda: None
    else:
        yield f"write {wanted.configuration_file}", partial(_write, wanted.configuration_file, wanted.configuration)
    yield f"make {wanted.state_dir}", partial(_make_directory, wanted.state_dir)
    if wanted.reaches_systemd():
        yield _systemctl("daemon-reload")
        # What else there is, is for who wants it.
        yield _systemctl("enable", f"{wanted.name}.socket", f"{wanted.name}.service")
        # Not the socket: what waits in its queue would be lost, and systemd restarts none whose service runs.
        yield _systemctl("start", f"{wanted.name}.socket")
        yield _systemctl("restart", f"{wanted.name}.service")


def uninstall(present: Installation) -> Iterator[Step]:
    """Yield the steps after which the plugin no longer runs. What may be somebody's work stays."""
    units = [path for path in present.unit_files() if path.exists()]
    if units and present.reaches_systemd():
        yield _systemctl("disable", "--now", *(path.name for path in units))
    for path in units:
        yield f"delete {path}", partial(_delete, path)
    if units and present.reaches_systemd():
        yield _systemctl("daemon-reload")
    file = present.configuration_file
    if file.exists():
        if file.read_text(encoding="utf-8", errors="replace") == present.configuration:
            yield f"delete {file}", partial(_delete, file)
            yield f"delete {file.parent}, if it is empty", partial(_remove_if_empty, file.parent)
        else:
            yield f"keep {file}: it was changed", lambda: None
    if present.state_dir.is_dir():
        if any(present.state_dir.iterdir()):
            yield f"keep {present.state_dir}: it has what {present.name} remembers", lambda: None
        else:
            yield f"delete {present.state_dir}", partial(_remove_if_empty, present.state_dir)


def _systemctl(*arguments: str) -> Step:
    argv = ["systemctl", *arguments]
    return " ".join(argv), partial(command.run, argv, timeout_s=_SYSTEMCTL_TIMEOUT_S)


def _write(path: Path, text: str) -> None:
    """The file has the text; never half of it."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, encoding="utf-8")
        fresh.chmod(0o644)
        fresh.replace(path)
    except OSError as exc:
        raise PluginError(f"cannot write {path}: {exc.strerror}{_way_out(exc)}") from exc


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise PluginError(f"cannot make {path}: {exc.strerror}{_way_out(exc)}") from exc


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise PluginError(f"cannot delete {path}: {exc.strerror}{_way_out(exc)}") from exc


def _remove_if_empty(path: Path) -> None:
    try:
        path.rmdir()
    except OSError as exc:
        # Others may have put something there: that is no failure.
        if not any(path.iterdir()):
            raise PluginError(f"cannot delete {path}: {exc.strerror}{_way_out(exc)}") from exc


def _way_out(exc: OSError) -> str:
    return "; run it as root" if isinstance(exc, PermissionError) and os.geteuid() != 0 else ""
