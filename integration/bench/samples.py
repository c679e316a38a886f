"""What was measured, and how it is told: medians, and ratios to the first variant that has the measure."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Samples:
    """Seconds by measure and variant, in the order in which they were first noted."""

    variants: Sequence[str]
    reference: str
    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def note(self, measure: str, variant: str, *values: float) -> None:
        """The values are among the samples."""
        self.seconds.setdefault(measure, {}).setdefault(variant, []).extend(values)

    def json(self) -> str:
        """Every sample, in seconds."""
        return json.dumps(self.seconds, indent=1)

    def table(self) -> str:
        """A table in Markdown: milliseconds, and in brackets how many times the reference's."""
        lines = ["| measure, ms (x " + self.reference + ") | " + " | ".join(self.variants) + " |"]
        lines.append("|---" * (len(self.variants) + 1) + "|")
        for measure, by_variant in self.seconds.items():
            for name, of in (("", statistics.median), (", p95", percentile_95)):
                if name and max(map(len, by_variant.values())) < 100:
                    continue
                values = {variant: of(values) for variant, values in by_variant.items()}
                cells = [self._cell(values, variant) for variant in self.variants]
                lines.append(f"| {measure}{name} | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def _cell(self, values: dict[str, float], variant: str) -> str:
        value, reference = values.get(variant), values.get(self.reference)
        if value is None:
            return "-"
        text = f"{value * 1000:.3g}" if value < 1 else f"{value * 1000:.0f}"
        return text if reference is None or variant == self.reference else f"{text} (x{value / reference:.2f})"


def percentile_95(values: Sequence[float]) -> float:
    """The value below which 95 of 100 samples are."""
    return statistics.quantiles(values, n=20)[-1]
