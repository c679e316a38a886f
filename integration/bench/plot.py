"""Draw what `make bench ARGS="--json FILE"` measured: how many times Docker's own driver each thing takes.

Run as `python -m integration.bench.plot FILE.json FILE.svg`, where pygal is installed.
"""

import argparse
import json
import re
import statistics
from pathlib import Path

import pygal
from pygal.style import Style

REFERENCE = "docker"
_SCRIPT = re.compile(rb"<script.*?</script>", re.DOTALL)
_BAR_HEIGHT, _MARGIN_HEIGHT = 24, 160


def main() -> None:
    """The picture is in the file."""
    parser = argparse.ArgumentParser(prog="python -m integration.bench.plot", description=__doc__)
    parser.add_argument("samples", type=Path)
    parser.add_argument("picture", type=Path)
    chosen = parser.parse_args()
    chosen.picture.write_bytes(picture(json.loads(chosen.samples.read_text())))


def picture(samples: dict[str, dict[str, list[float]]]) -> bytes:
    """Return a picture in SVG, without scripts: a bar for each measure that the reference has too, and each variant."""
    medians = {
        measure: {variant: statistics.median(values) for variant, values in by_variant.items()}
        for measure, by_variant in samples.items()
        if REFERENCE in by_variant and len(by_variant) > 1
    }
    variants = list(dict.fromkeys(variant for found in medians.values() for variant in found))
    bars = len(medians) * len(variants)
    chart = pygal.HorizontalBar(
        js=(),
        title=f"times of {REFERENCE}'s, less is sooner",
        logarithmic=True,
        legend_at_bottom=True,
        print_values=True,
        show_x_labels=False,
        formatter=lambda value: f"x{value:.2g}",
        height=_BAR_HEIGHT * bars + _MARGIN_HEIGHT,
        style=Style(font_family="sans-serif", value_font_size=11, label_font_size=11),
    )
    # The first one is drawn lowest.
    chart.x_labels = list(reversed(medians))
    for variant in variants:
        chart.add(variant, [_ratio(found, variant) for found in reversed(medians.values())])
    return _SCRIPT.sub(b"", chart.render())


def _ratio(found: dict[str, float], variant: str) -> float | None:
    return found[variant] / found[REFERENCE] if variant in found else None


if __name__ == "__main__":
    main()
