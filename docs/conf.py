"""The site: `make site` writes it to build/site."""

import re
from pathlib import Path

project = "pynet and pyvol"
copyright = ""  # noqa: A001 - Sphinx's name for it
version = re.findall(r'^version = "(.+)"', (Path(__file__).parents[1] / "pyproject.toml").read_text(), re.MULTILINE)[0]
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"{project} {version}"
html_show_copyright = False
# Nothing is loaded from elsewhere; the reader may be offline.
html_theme_options = {"top_of_page_buttons": []}
exclude_patterns = ["examples"]
