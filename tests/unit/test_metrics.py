"""The counters, as a Prometheus server reads them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from pluginkit.errors import Conflict
from pluginkit.metrics import Metrics
from pluginkit.reconcile import Outcome


def samples(metrics: Metrics) -> dict[str, float]:
    """Return name and labels, as `name{label=value,…}`, to value."""
    return {
        sample.name + "{" + ",".join(f"{label}={value}" for label, value in sorted(sample.labels.items())) + "}": (
            sample.value
        )
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def test_requests_are_counted_by_method_and_outcome_and_timed() -> None:
    metrics = Metrics("pynet")
    for outcome, seconds in (("ok", 0.002), ("ok", 0.02), ("bug", 5.0)):
        metrics.answered("NetworkDriver.Join", outcome, seconds)
    seen = samples(metrics)
    assert seen["pynet_requests_total{method=NetworkDriver.Join,outcome=ok}"] == 2
    assert seen["pynet_requests_total{method=NetworkDriver.Join,outcome=bug}"] == 1
    assert seen["pynet_request_seconds_count{method=NetworkDriver.Join}"] == 3
    assert seen["pynet_request_seconds_bucket{le=0.003,method=NetworkDriver.Join}"] == 1


def test_failures_are_counted_by_method_and_reason() -> None:
    metrics = Metrics("pynet")
    for reason in ("Conflict", "Conflict", "BadRequest"):
        metrics.failed("NetworkDriver.Join", reason)
    seen = samples(metrics)
    assert seen["pynet_failures_total{method=NetworkDriver.Join,reason=Conflict}"] == 2
    assert seen["pynet_failures_total{method=NetworkDriver.Join,reason=BadRequest}"] == 1


def test_the_dashboard_asks_for_what_there_is() -> None:
    dashboard = (Path(__file__).parents[2] / "docs" / "examples" / "grafana.json").read_text()
    asked = [target["expr"] for panel in json.loads(dashboard)["panels"] for target in panel["targets"]]
    known: set[str] = set()
    for plugin in ("pynet", "pyvol"):
        metrics = Metrics(plugin)
        metrics.answered("m", "ok", 1.0)
        metrics.failed("m", "Conflict")
        known |= {name.partition("{")[0] for name in samples(metrics)}
    # What pyvol's app measures of its disk: tests/volume sees them told.
    known |= {"pyvol_disk_available_bytes", "pyvol_volumes_growth_bytes"}
    assert {name for expr in asked for name in re.findall(r"\bpy(?:net|vol)_\w+", expr)} <= known
    assert len(asked) > 10


def test_reconciles_add_up_and_failures_are_those_of_the_last() -> None:
    metrics = Metrics("pyvol")
    metrics.reconciled(Outcome(2, 3, (Conflict("cannot"),)))
    metrics.reconciled(Outcome(1, 0, ()))
    seen = samples(metrics)
    assert seen["pyvol_reconciles_total{}"] == 2
    assert seen["pyvol_moves_settled_total{}"] == 3
    assert seen["pyvol_orphans_swept_total{}"] == 3
    assert seen["pyvol_reconcile_failures{}"] == 0


def test_two_plugins_in_one_process_do_not_share_counters() -> None:
    first, second = Metrics("pynet"), Metrics("pynet")
    first.reconciled(Outcome(0, 0, ()))
    assert samples(second)["pynet_reconciles_total{}"] == 0
