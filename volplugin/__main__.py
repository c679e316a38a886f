"""The command `pyvol`."""

from __future__ import annotations

from volplugin.cli import app


def main() -> None:
    """Run the command line."""
    app(prog_name="pyvol")


if __name__ == "__main__":
    main()
