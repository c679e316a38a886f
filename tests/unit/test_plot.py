"""The picture of what was measured."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from integration.bench.plot import picture


def test_bars_are_times_of_dockers_and_what_docker_has_not_is_left_out() -> None:
    drawn = picture(
        {
            "docker run": {"pynet": [0.2, 0.3, 0.4], "docker": [0.6, 0.6, 0.7]},
            "docker rm": {"pynet": [0.9], "docker": [0.6]},
            "10000 ports": {"pynet": [1.0]},
        }
    )
    words = [text for text in ET.fromstring(drawn).itertext() if text.strip()]
    assert {"docker run", "docker rm", "pynet", "docker", "x0.5", "x1.5", "x1"} <= set(words)
    assert "10000 ports" not in words
    assert b"<script" not in drawn
