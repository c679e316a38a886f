"""The picture of what was measured, drawn by a process of its own: pygal changes how all others import."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

SAMPLES = {
    "docker run": {"pynet": [0.2, 0.3, 0.4], "docker": [0.6, 0.6, 0.7]},
    "docker rm": {"pynet": [0.9], "docker": [0.6]},
    "10000 ports": {"pynet": [1.0]},
}


def test_bars_are_times_of_dockers_and_what_docker_has_not_is_left_out(tmp_path: Path) -> None:
    measured, drawn = tmp_path / "samples.json", tmp_path / "picture.svg"
    measured.write_text(json.dumps(SAMPLES))
    argv = [sys.executable, "-m", "integration.bench.plot", measured, drawn]
    subprocess.run(argv, cwd=Path(__file__).parents[2], check=True, timeout=120)
    words = {text for text in ET.parse(drawn).getroot().itertext() if text.strip()}
    assert {"docker run", "docker rm", "pynet", "docker", "x0.5", "x1.5", "x1"} <= words
    assert "10000 ports" not in words
    assert b"<script" not in drawn.read_bytes()
