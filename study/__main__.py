"""The command `study`, also `python -m study`.

The base install has what reports need; there, `report` and `table` work on scores in files.
"""

import sys

from study import NEEDED, lacking


def command() -> None:
    """Run the command line of this process and exit with its code."""
    words = sys.argv[1:]
    missing = NEEDED or lacking("ray", "mlflow")
    if not missing:
        from study.cli.parser import run_command

        sys.exit(run_command(words))

    from analysis import cli as reports

    match words:
        case ["report", *rest]:
            sys.exit(reports.main(rest, program="study report"))
        case ["table", *rest]:
            sys.exit(reports.print_table(rest, program="study table"))
    print(f"{missing}; `study report FILE` and `study table FILE` work without", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    command()
