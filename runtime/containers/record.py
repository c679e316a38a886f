"""What pyrun remembers of a container: what was asked for, and where it stands."""

from __future__ import annotations

import datetime
from dataclasses import asdict, dataclass, field
from typing import Any

CREATED, RUNNING, PAUSED, RESTARTING, EXITED = "created", "running", "paused", "restarting", "exited"
# Nobody was told of one that is being made, and nobody is to hear of one that is being removed.
CREATING, REMOVING = "creating", "removing"
NEVER = "0001-01-01T00:00:00Z"  # Go's zero time
LOST = 255  # the exit code of a process whose end nobody saw, as dockerd has it


@dataclass(frozen=True)
class Container:
    """One container. `config`, `host` and `networks` are the Engine API's Config, HostConfig and EndpointsConfig.

    mounts: MountPoints of the API. restarts: how often the policy has
    restarted it since somebody started it. stopped: somebody has stopped it, which `unless-stopped` respects.
    """

    id: str
    name: str
    created: str
    image: str
    layers: list[str]
    config: dict[str, Any]
    host: dict[str, Any]
    networks: dict[str, Any]
    mounts: list[dict[str, Any]] = field(default_factory=list)
    status: str = CREATING
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    started: str = NEVER
    finished: str = NEVER
    oom_killed: bool = False
    restarts: int = 0
    stopped: bool = False

    def record(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return asdict(self)

    @property
    def alive(self) -> bool:
        """Whether it has a process."""
        return self.status in (RUNNING, PAUSED)

    @property
    def network_mode(self) -> str:
        """The name of the network that it was created with."""
        return str(self.host.get("NetworkMode") or "default")

    @property
    def hostname(self) -> str:
        """The name that its own UTS namespace says."""
        return str(self.config.get("Hostname") or self.id[:12])


def now() -> str:
    """Return the time as the Engine API spells it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "000Z")
