"""All that is looked at for the page, put together."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from console import state
from console.ask import Pynet, Pyvol
from console.growth import APART_S, Growth
from console.source import Source
from console.state import NOBODY, Names, Row

_EVERY_S, _NAMES_EVERY_S = 2.0, 5.0
# Of volumes the doctor freezes each for a moment.
_DOCTORS_EVERY_S = 300.0

Doctor = Callable[[], list[dict[str, Any]]]


class Watch:
    """What the page shows at the moment it asks."""

    def __init__(
        self, pynet_dir: Path, pyvol_dir: Path, names: Callable[[], Names], doctors: Mapping[str, Doctor]
    ) -> None:
        """names: asks engines. doctors: by name; each returns what is wrong, with level, what and cure."""
        self._growth = Growth()
        self._pynet = Source("pynet", Pynet(pynet_dir).look, _EVERY_S)
        pyvol = Pyvol(pyvol_dir)

        def look_at_volumes() -> Row:
            seen = pyvol.look()
            self._growth.note(time.monotonic(), state.used(seen["volumes"]))
            return seen

        # Also while nobody looks: what has grown since yesterday is seen today.
        self._pyvol = Source("pyvol", look_at_volumes, _EVERY_S, APART_S)
        self._names = Source("names", names, _NAMES_EVERY_S)
        self._doctors = {name: Source(name, look, _DOCTORS_EVERY_S) for name, look in doctors.items()}
        sources: tuple[Source[Any], ...] = (self._pynet, self._pyvol, self._names, *self._doctors.values())
        for source in sources:
            source.start()

    def now(self) -> Row:
        """Return what the page shows."""
        pynet, pyvol, named = self._pynet.read(), self._pyvol.read(), self._names.read()
        names = named.value or NOBODY
        host = socket.gethostname()
        return {
            "at": datetime.now(UTC).isoformat(),
            "host": host,
            "names_error": named.error,
            "pynet": state.pynet(pynet, names, host),
            "pyvol": state.pyvol(pyvol, self._growth),
            "doctor": state.findings({name: source.read() for name, source in self._doctors.items()}),
            "events": state.events({"pynet": pynet, "pyvol": pyvol}, names),
        }
