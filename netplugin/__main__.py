"""The command `pynet`."""

from __future__ import annotations

from netplugin.cli import app


def main() -> None:
    """Run the command line."""
    app(prog_name="pynet")


if __name__ == "__main__":
    main()
