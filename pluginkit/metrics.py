"""Counters of one plugin process, in a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pluginkit.reconcile import Outcome


class Metrics:
    """What a plugin counts; every name starts with the plugin's."""

    def __init__(self, plugin: str) -> None:
        self._plugin = plugin
        self._measured: dict[str, Gauge] = {}
        self._registry = CollectorRegistry()
        self._requests = Counter(
            f"{plugin}_requests", "Requests answered.", ["method", "outcome"], registry=self._registry
        )
        self._seconds = Histogram(
            f"{plugin}_request_seconds",
            "Time to answer a request.",
            ["method"],
            registry=self._registry,
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
        )
        self._failed = Counter(
            f"{plugin}_failures", "Requests that failed, by reason.", ["method", "reason"], registry=self._registry
        )
        self._reconciles = Counter(f"{plugin}_reconciles", "Reconciliations run.", registry=self._registry)
        self._undone = Counter(
            f"{plugin}_moves_settled", "Interrupted moves that a reconcile settled.", registry=self._registry
        )
        self._swept = Counter(
            f"{plugin}_orphans_swept", "Kernel objects removed because no record wanted them.", registry=self._registry
        )
        self._drifts = Counter(
            f"{plugin}_drifts", "Times that others were seen changing what is ours.", registry=self._registry
        )
        self._failing = Gauge(
            f"{plugin}_reconcile_failures", "What the last reconcile could not put right.", registry=self._registry
        )

    def answered(self, method: str, outcome: str, seconds: float) -> None:
        """One more request is counted; `outcome` is "ok", "error" or "bug"."""
        self._requests.labels(method, outcome).inc()
        self._seconds.labels(method).observe(seconds)

    def failed(self, method: str, reason: str) -> None:
        """One more failed request is counted; `reason` is the name of an error of ours, or of a bug's."""
        self._failed.labels(method, reason).inc()

    def reconciled(self, outcome: Outcome) -> None:
        """One more reconcile is counted."""
        self._reconciles.inc()
        self._undone.inc(outcome.undone)
        self._swept.inc(outcome.swept)
        self._failing.set(len(outcome.failures))

    def drifted(self) -> None:
        """One more drift was seen."""
        self._drifts.inc()

    def measured(self, name: str, text: str, value: float) -> None:
        """The plugin's own gauge `name` stands at `value`."""
        if name not in self._measured:
            self._measured[name] = Gauge(f"{self._plugin}_{name}", text, registry=self._registry)
        self._measured[name].set(value)

    def text(self) -> bytes:
        """Return all of it in the Prometheus text format."""
        return generate_latest(self._registry)
