"""Prints the table of packet cases for docs/conformance.md."""

from netplugin.conform.catalogue import CASES


def main() -> None:
    """The table was printed."""
    print("| case | area | IPv | on | from | what must hold |")
    print("|---|---|---|---|---|---|")
    for case in CASES:
        versions = ", ".join(map(str, case.versions))
        print(f"| `{case.id}` | {case.area} | {versions} | {', '.join(case.kinds)} | {case.source} | {case.says} |")


if __name__ == "__main__":
    main()
