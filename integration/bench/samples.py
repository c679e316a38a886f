"""What was measured, and how it is told: medians, their spread, and ratios to one of the variants."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Unit:
    """What a table shows its values in. per: how many of it are one second, or one byte or operation a second."""

    name: str
    per: float


MILLISECONDS = Unit("ms", 1e3)
MEBIBYTES_A_SECOND = Unit("MiB/s", 1 / 2**20)
# From so many samples on their 95th percentile is told, too.
MANY = 100
# The middle half of fewer says nothing.
FEW = 4


@dataclass
class Samples:
    """Seconds, or rates a second, by measure and variant, in the order in which they were first noted.

    reference: the variant that the others are told as times of; "" if they are not to be compared.
    """

    variants: Sequence[str]
    reference: str
    unit: Unit = MILLISECONDS
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def note(self, measure: str, variant: str, *values: float) -> None:
        """The values are among the samples."""
        self.values.setdefault(measure, {}).setdefault(variant, []).extend(values)

    def json(self) -> str:
        """Every sample, as it was noted."""
        return json.dumps(self.values, indent=1)

    def table(self) -> str:
        """A table in Markdown: medians, in brackets how many times the reference's, and where the middle half lies."""
        times = f" (x {self.reference})" if self.reference else ""
        lines = [f"| measure, {self.unit.name}{times} | " + " | ".join(self.variants) + " |"]
        lines.append("|---" * (len(self.variants) + 1) + "|")
        for measure, by_variant in self.values.items():
            lines.append(self._line(measure, {name: statistics.median(values) for name, values in by_variant.items()}))
            if max(map(len, by_variant.values())) >= MANY:
                high = {name: percentile_95(values) for name, values in by_variant.items()}
                lines.append(self._line(f"{measure}, p95", high, spread=False))
        return "\n".join(lines)

    def _line(self, measure: str, told: dict[str, float], *, spread: bool = True) -> str:
        cells = []
        for variant in self.variants:
            value, reference = told.get(variant), told.get(self.reference)
            text = "-" if value is None else self._number(value)
            if value is not None and reference is not None and variant != self.reference:
                text += f" (x{value / reference:.2f})"
            samples = self.values[measure].get(variant, []) if spread else []
            if len(samples) >= FEW:
                low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
                text += f" {self._number(low)}..{self._number(high)}"
            cells.append(text)
        return f"| {measure} | " + " | ".join(cells) + " |"

    def _number(self, value: float) -> str:
        shown = value * self.unit.per
        return f"{shown:.3g}" if shown < 1000 else f"{shown:.0f}"


def percentile_95(values: Sequence[float]) -> float:
    """The value below which 95 of 100 samples are."""
    return statistics.quantiles(values, n=20)[-1]
