"""The command `pyrun`."""

from __future__ import annotations

import sys

from runtime.cli import app
from runtime.client.engine import EngineError
from runtime.client.words import Misunderstood


def main() -> None:
    """Run the command line."""
    try:
        app(prog_name="pyrun")
    except (EngineError, Misunderstood) as exc:
        sys.exit(f"pyrun: {exc}")


if __name__ == "__main__":
    main()
