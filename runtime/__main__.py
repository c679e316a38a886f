"""The command `pyrun`."""

from __future__ import annotations

from runtime.cli import app


def main() -> None:
    """Run the command line."""
    app(prog_name="pyrun")


if __name__ == "__main__":
    main()
