"""What a soak looks at: a plugin's processes, its records, what it has in the kernel, and how long its answers take."""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from integration.lab.machine import pss
from tests.network.sandboxes import command
from tests.serving import Serving
from tests.volume.conftest import attached_below, mounted_below

# By so much of its mean may a measure have grown over the second half, or by what chance alone makes likely: samples
# that follow each other are alike, so that the true errors are larger than those of the line.
FLAT, ERRORS = 0.05, 4
# One thread, one mount, one MiB more or less says nothing.
LITTLE = 2.0


class Timed(Serving):
    """A plugin that runs; when it was asked what, and how long the answer took, is kept."""

    def __init__(self, program: str, directory: Path, *options: str) -> None:
        super().__init__(program, directory, *options)
        self.took: dict[str, list[tuple[float, float]]] = {}

    def ask(self, method: str, request: object = None) -> tuple[int, dict[str, Any]]:
        asked = time.monotonic()
        answer = super().ask(method, request)
        self.took.setdefault(method, []).append((asked, time.monotonic() - asked))
        return answer


def measured(serving: Timed) -> dict[str, float]:
    """Return the measures of one plugin, by what they are of."""
    name, pid = serving.socket.stem, serving.process.pid
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    found: dict[str, float] = {
        "PSS, MiB": sum(map(pss, pids)) / 2**20,
        "descriptors": sum(len(list(Path(f"/proc/{each}/fd").iterdir())) for each in pids),
        "threads": sum(len(list(Path(f"/proc/{each}/task").iterdir())) for each in pids),
        "rows": _rows(serving.state_dir / f"{name}.db"),
        "state, KiB": sum(file.stat().st_size for file in serving.state_dir.glob(f"{name}.db*")) / 1024,
    }
    if name == "pynet":
        tables = [line.strip() for line in command("nft", "list", "ruleset").splitlines()]
        found["nftables, lines"] = len(tables)
        found["links"] = len([line for line in command("ip", "-o", "link").splitlines() if " pn" in line])
    else:
        found["mounts"] = len(mounted_below(serving.state_dir))
        found["loop devices"] = len(attached_below(serving.state_dir))
    return {f"{name}: {what}": value for what, value in found.items()}


def grown(samples: list[tuple[float, float]]) -> tuple[float, float]:
    """Return by how much a line through the samples rises from their first to their last, and its standard error."""
    times, values = zip(*samples, strict=True)
    if len(samples) < 3 or len(set(values)) == 1:
        return 0.0, 0.0
    slope, start = statistics.linear_regression(times, values)
    span, middle = times[-1] - times[0], statistics.fmean(times)
    off = sum((value - start - slope * at) ** 2 for at, value in samples) / (len(samples) - 2)
    error = (off / sum((at - middle) ** 2 for at in times)) ** 0.5
    return float(slope * span), float(error * span)


def is_flat(samples: list[tuple[float, float]], little: float = LITTLE) -> bool:
    """Tell whether it did not grow, but for what chance makes likely, or what is little."""
    rise, error = grown(samples)
    return rise <= max(ERRORS * error, FLAT * abs(statistics.fmean(value for _, value in samples)), little)


def latencies(took: Mapping[str, list[tuple[float, float]]], middle: float) -> list[str]:
    """Return a row of a table for each method: how often, and what p50 and p99 were before `middle` and after."""
    rows = []
    for method, asked in sorted(took.items()):
        halves = [[1000 * took for at, took in asked if (at >= middle) == later] for later in (False, True)]
        cells = [f"{_share(half, 50):.1f} / {_share(half, 99):.1f}" for half in halves]
        rows.append(f"| {method} | {len(asked)} | {' | '.join(cells)} |")
    return rows


def _share(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else float("nan")


def _rows(database: Path) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        [[count]] = connection.execute("SELECT count(*) FROM record").fetchall()
        return int(count)
